"""What the command line does with many coupons at once: import, export, reindex, restore."""
