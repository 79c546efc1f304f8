"""The rules of coupons and commands, and their forms outside the process. Pure: no input, no output, no clock read."""
