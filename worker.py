#!/usr/bin/env python3
"""The worker: ``python worker.py [--topics commands,reindex]``. Applies what is queued until it is told to stop.

Exit status: 0 after SIGTERM or SIGINT, 1 when going on would do harm, 2 for a configuration that cannot work.
"""

import sys

import click

from coupon.domain.errors import ConfigurationError
from coupon.runtime import settings
from coupon.worker.process import run, stop_at_signals


@click.command()
@click.option("--topics", default="", help="Only these, separated by commas (default: all commands, and reindex).")
def main(topics: str) -> None:
    """Apply what is queued until SIGTERM: then finish and commit the part in flight, and leave the group."""
    stop = stop_at_signals()
    try:
        status = run(settings.load(), topics, stop)
    except ConfigurationError as error:
        sys.stderr.write(f"worker.py: {error}\n")
        status = 2
    sys.exit(status)


if __name__ == "__main__":
    main()
