"""``make load``: Locust against a running service, and a report with its charts under ``build/load/``."""
