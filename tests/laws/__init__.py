"""Property tests: laws that hold for every generated run and every input."""
