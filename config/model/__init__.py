"""The blocks of the YAML files, declared field by field, and their resolution to what the proxy uses."""
