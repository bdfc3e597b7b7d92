"""One file per command of ``stream-proxy``; each is imported only when it is called."""
