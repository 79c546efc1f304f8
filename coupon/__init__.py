"""Coupon: create, issue, use and query coupons at volumes that one database cannot carry."""
