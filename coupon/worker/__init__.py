"""The worker: applies accepted commands, then brings search and the cache up to date. It does not know the web side."""
