"""Workflow scripts of the simulator: the model, the YAML schema, the loader and the validation."""
