"""JMESPath expressions: parsing, linting, compiling and evaluation within a budget."""
