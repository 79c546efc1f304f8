"""``coupon worker-alive``."""

import click

from coupon.cli.output import json_option, result
from coupon.runtime.heartbeat import is_fresh
from coupon.runtime.settings import load
from coupon.runtime.worker_registry import STALE_S


@click.command("worker-alive", short_help="A probe of the worker on this machine.")
@json_option
def command(as_json: bool) -> int:
    """A probe: exit status 0 when a worker of this machine has a fresh heartbeat, else 1."""
    file = load(if_missing="refuse").heartbeat_file
    alive = is_fresh(file)
    sentence = f"{'a' if alive else 'no'} worker gave a sign of life in {file} in the last {STALE_S} s"
    result(as_json, {"alive": alive}, sentence)
    return 0 if alive else 1
