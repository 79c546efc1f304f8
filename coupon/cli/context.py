"""The backends of a command: opened when it begins, closed when it ends."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from coupon.cli.output import say
from coupon.domain.errors import NotInitialized
from coupon.runtime import logs
from coupon.runtime.gc_tuning import tune_gc
from coupon.runtime.settings import Settings, load
from coupon.runtime.wiring import Backends, open_backends

LOOK_S = 0.2
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
DURABLE = ("COUPON_QUEUE_URL", "COUPON_STORE_URL")
"""The settings whose files only `coupon init` makes. Files of the cache and of search may be lost, and are made when
needed."""


def wait_option(meaning: str = "How long to wait for `coupon init`, where it was not run yet.") -> Decorator:
    """``--wait SECONDS``, as the argument ``wait_s``."""
    seconds = click.FloatRange(0)
    return click.option(
        "--wait", "wait_s", type=seconds, default=30, metavar="SECONDS", show_default=True, help=meaning
    )


@contextmanager
def session(*, initialize: bool = False) -> Iterator[tuple[Settings, Backends]]:
    """The settings and their backends; raises ConfigurationError.

    Without ``initialize`` the secret and the files have to exist: no empty ones are made in a wrong directory."""
    settings = load(if_missing="make" if initialize else "refuse")
    if not initialize:
        ensure_files(settings)
    logs.configure("warning", "text")
    backends = open_backends(settings)
    tune_gc()
    try:
        yield settings, backends
    finally:
        backends.close()


def settings_once_initialized(wait_s: float) -> Settings:
    """The settings, as soon as ``coupon init`` has made what it makes. Raises NotInitialized when it has not made it
    in time, and at once ConfigurationError for what waiting does not help."""
    open_backends(load(if_missing="ignore")).close()
    deadline, told = time.monotonic() + wait_s, False
    while True:
        try:
            settings = load(if_missing="refuse")
            ensure_files(settings)
        except NotInitialized as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                say(f"coupon: waiting up to {wait_s:g} s: {error}")
            told = True
            time.sleep(LOOK_S)
        else:
            return settings


def ensure_files(settings: Settings) -> None:
    """Raise NotInitialized when a file that `coupon init` makes is missing, or the directory of another file."""
    for setting, file in settings.database_files():
        needed = file if setting in DURABLE else file.parent
        if _is_missing(needed):
            raise NotInitialized(
                f"{setting} names {str(file)!r}, and {str(needed)!r} is missing (from {Path.cwd()}):"
                " run coupon init, or go to the service's directory"
            )


def _is_missing(path: Path) -> bool:
    """False also for a path that cannot be read: the backend reports the reason."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False
