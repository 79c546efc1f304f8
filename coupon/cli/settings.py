"""``coupon settings``."""

import click

from coupon.cli.output import json_option, result
from coupon.runtime.settings import load
from coupon.runtime.wiring import open_backends


@click.command("settings", short_help="Show the settings, secrets masked.")
@json_option
def command(as_json: bool) -> None:
    """The settings in force, secrets masked. The exit status is 2 when a start would fail, or when the secret file is
    missing (a start would make a new one)."""
    settings = load(make_secret=False)
    open_backends(settings).close()
    shown = settings.masked()
    width = max(map(len, shown))
    result(as_json, shown, "\n".join(f"{name:<{width}}  {value}" for name, value in shown.items()))
