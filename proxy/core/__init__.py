"""Values that cross packages, JSON encoding and the clock; no input or output."""
