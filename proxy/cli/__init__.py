"""The command line: the entry point, the commands and the demo."""
