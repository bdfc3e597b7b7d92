"""The pure core of a followed run: observations in; ordered items, and what to read next, out."""
