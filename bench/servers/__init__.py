"""The peers: what a stream proxy is measured beside, each as people write it."""
