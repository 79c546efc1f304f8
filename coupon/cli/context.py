"""The backends of a command: opened when it begins, closed when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coupon.domain.errors import ConfigurationError
from coupon.runtime import logs
from coupon.runtime.gc_tuning import tune_gc
from coupon.runtime.settings import Settings, load
from coupon.runtime.wiring import Backends, open_backends

DURABLE = ("COUPON_QUEUE_URL", "COUPON_STORE_URL")
"""The settings whose files only `coupon init` makes. Files of the cache and of search may be lost, and are made when
needed."""


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


def ensure_files(settings: Settings) -> None:
    """Raise ConfigurationError when a file that `coupon init` makes is missing, or the directory of another file."""
    for setting, file in settings.database_files():
        needed = file if setting in DURABLE else file.parent
        if _is_missing(needed):
            raise ConfigurationError(
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
