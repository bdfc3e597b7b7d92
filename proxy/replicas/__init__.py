"""One run on several replicas: which one follows it at Hatchet, and how the others serve it from its log."""
