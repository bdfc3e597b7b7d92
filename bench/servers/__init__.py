"""The servers that the proxy is compared with, each written in the usual way."""
