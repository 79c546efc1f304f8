"""The web side: accepts commands fast, and answers what became of them. It knows nothing of the worker."""
