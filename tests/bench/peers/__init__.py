"""What a user would pick instead, side by side with ours: a table in PostgreSQL, or scripts in Redis, behind Flask."""
