"""What a process needs to run: settings, backends by URL, logs, retries, health."""
