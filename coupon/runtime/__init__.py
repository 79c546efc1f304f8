"""What a process needs to run: settings, backends by URL, logs, retries, and what it tells of its health."""
