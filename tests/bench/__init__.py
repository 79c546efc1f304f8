"""``make bench``: figures, each beside its yardstick from the same run, as a ratio. No test: it asserts nothing."""
