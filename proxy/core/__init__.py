"""Values that cross packages, times, JSON, the clock and eager tasks; no input or output."""
