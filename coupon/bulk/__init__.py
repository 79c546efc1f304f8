"""Many coupons at once, for the command line: import, export, reindex, restore."""
