"""Applying a batch of commands to the store: what the worker and a restore have in common."""
