"""``make load``: Locust against a running service, with its charts under ``build/load/``. Nothing here is a test."""
