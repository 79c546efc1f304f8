"""The backends of a command: opened when it begins, closed when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager

from coupon.runtime import logs
from coupon.runtime.gc_tuning import tune_gc
from coupon.runtime.settings import Settings, load
from coupon.runtime.wiring import Backends, open_backends


@contextmanager
def session() -> Iterator[tuple[Settings, Backends]]:
    """The settings and what they name; raises ConfigurationError."""
    settings = load()
    logs.configure("warning", "text")
    backends = open_backends(settings)
    tune_gc()
    try:
        yield settings, backends
    finally:
        backends.close()
