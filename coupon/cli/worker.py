"""``coupon worker``."""

import click

from coupon.cli.context import settings_once_initialized, wait_option
from coupon.worker.process import run, stop_at_signals


@click.command("worker", short_help="Apply what is queued, until it is stopped.")
@click.option("--topics", default="", help="Only these, separated by commas (default: all commands, and reindex).")
@wait_option()
def command(topics: str, wait_s: float) -> int:
    """Apply what is queued until SIGTERM or Ctrl-C: then finish and commit the part in flight, and leave the group. Any
    number of workers share the work."""
    stop = stop_at_signals()
    return run(settings_once_initialized(wait_s), topics, stop)
