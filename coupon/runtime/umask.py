"""Files that a process makes are for its own user: they hold coupons and their holders, and a lock on one stops all
commands."""

import os

PRIVATE = 0o077


def make_files_private() -> None:
    """For all files that this process and its children make from now on."""
    os.umask(PRIVATE)
