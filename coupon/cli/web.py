"""``coupon web``."""

import os
import sys

import click

from coupon.cli.context import settings_once_initialized, wait_option
from coupon.cli.output import say
from coupon.runtime import server_settings
from coupon.runtime.supervisor import ensure_nobody_listens

GUNICORN = ("-m", "gunicorn", "-c", "python:coupon.web.gunicorn_conf", "coupon.web.wsgi:app")


@click.command("web", short_help="Serve HTTP, until it is stopped.")
@wait_option()
def command(wait_s: float) -> None:
    """Serve HTTP by gunicorn until SIGTERM or Ctrl-C, at HOST (127.0.0.1) and PORT (8080). Its data are where the
    settings say: under data/ of this directory, unless COUPON_CONF names others."""
    server = server_settings.load()
    ensure_nobody_listens(server.host, server.port, "PORT=8081 coupon web")
    settings_once_initialized(wait_s)  # says in a sentence what gunicorn says in a traceback
    url = f"http://{server.host}:{server.port}"
    say(f"coupon: web will be at {url} and explained at {url}/docs; `coupon worker` applies what it accepts")
    os.environ["WEB_CONCURRENCY"] = str(server.processes)  # gunicorn reads it before our file, and takes no empty one
    os.execv(sys.executable, [sys.executable, *GUNICORN])  # noqa: S606 - our own command
