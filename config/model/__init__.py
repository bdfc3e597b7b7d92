"""The blocks of the YAML files, declared field by field, and how they resolve to what the proxy uses."""
