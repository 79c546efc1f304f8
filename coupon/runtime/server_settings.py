"""The settings of the web server, read from the environment by ``conf/gunicorn.conf.py`` and the application."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from coupon.domain.errors import ConfigurationError


class ServerSettings(NamedTuple):
    """``docs/settings.md`` explains each."""

    host: str
    port: int
    processes: int
    threads: int
    """Of each process."""
    pin_cpu: bool
    """Whether each process is pinned to a CPU of its own."""
    metrics_dir: str = ""
    """Where the folder is made in which the processes hand their metrics over; empty: the server chooses."""


def load(environ: Mapping[str, str] = os.environ) -> ServerSettings:
    """Raises ConfigurationError. An empty variable counts as absent."""
    return ServerSettings(
        host=environ.get("HOST") or "127.0.0.1",
        port=whole_number(environ, "PORT", 8080, 1, 65_535),
        processes=whole_number(environ, "WEB_CONCURRENCY", 2, 1, 1_024),
        threads=whole_number(environ, "WEB_THREADS", 16, 1, 1_024),
        pin_cpu=bool(whole_number(environ, "WEB_PIN_CPU", 0, 0, 1)),
        metrics_dir=environ.get("WEB_METRICS_DIR") or "",
    )


def whole_number(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Raises ConfigurationError. An empty variable counts as absent."""
    text = environ.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high):
        raise ConfigurationError(f"{name}={text!r} is not a whole number from {low} to {high}")
    return int(text)
