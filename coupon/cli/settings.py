"""``coupon settings``."""

from pathlib import Path

import click

from coupon.cli.output import json_option, result, say
from coupon.runtime import server_settings
from coupon.runtime.settings import load
from coupon.runtime.wiring import open_backends


@click.command("settings", short_help="Show the settings, secrets masked.")
@json_option
def command(as_json: bool) -> None:
    """The settings in force, secrets masked. The exit status is 2 when a start of the web side or of a worker would
    fail. A missing secret file fails no start: the first one makes it."""
    settings = load(if_missing="ignore")
    server_settings.load()
    backends = open_backends(settings)
    backends.close()
    if settings.secret_file:
        _look_at_secret(Path(settings.secret_file).absolute())
    shown = {**settings.masked(), **backends.urls}
    width = max(map(len, shown))
    result(as_json, shown, "\n".join(f"{name:<{width}}  {value}" for name, value in shown.items()))


def _look_at_secret(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        say(f"the secret file {str(path)!r} is missing: the first start makes a new one")
    else:
        if mode & 0o077:
            say(f"others can read the secret file {str(path)!r}: chmod 600 takes that from them")
