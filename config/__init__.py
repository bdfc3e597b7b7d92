"""The operator's YAML: read, checked, and turned into frozen values. Never imports ``proxy``."""
