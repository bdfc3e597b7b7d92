"""The pure core of a followed run: observations in; ordered items, gaps, and what to read next, out."""
