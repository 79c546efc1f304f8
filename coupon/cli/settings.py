"""``coupon settings``."""

from pathlib import Path

import click

from coupon.cli.output import json_option, result, say
from coupon.runtime.settings import load
from coupon.runtime.wiring import open_backends


@click.command("settings", short_help="Show the settings, secrets masked.")
@json_option
def command(as_json: bool) -> None:
    """The settings in force, secrets masked. The exit status is 2 when a start would fail. A missing secret file fails
    no start: the first one makes it."""
    settings = load(if_missing="ignore")
    backends = open_backends(settings)
    backends.close()
    if not settings.secret:
        path = Path(settings.secret_file).absolute()
        say(f"the secret file {str(path)!r} is missing: the first start makes a new one")
    shown = {**settings.masked(), **backends.urls}
    width = max(map(len, shown))
    result(as_json, shown, "\n".join(f"{name:<{width}}  {value}" for name, value in shown.items()))
