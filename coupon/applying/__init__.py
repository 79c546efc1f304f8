"""Applying a batch of commands to the store, for the worker and for a restore."""
