"""Where figures are taken: a folder, environments for the service, real servers that are started when asked for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coupon.domain.topics import all_topics
from coupon.runtime import logs, settings
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends, open_backends
from tests.e2e.deployment import embedded, on_services
from tests.services import Services

PARTITIONS = 12
"""One to four workers, or six, have as many each: nobody is left with more to do at the end."""


class Place:
    """A context: the servers that it started end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.services = Services()
        self._names = 0

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        self.services.close()

    def in_memory(self) -> dict[str, str]:
        """The environment of a service in one process."""
        return self._quick(
            {"COUPON_CONF": "conf/test.env", "COUPON_HEARTBEAT_FILE": str(self.new_folder() / "heartbeat")}
        )

    def embedded(self) -> dict[str, str]:
        """The environment of a service on SQLite files of its own."""
        return self._quick(embedded(self.new_folder()))

    def on_services(self, search: str = "elasticsearch") -> dict[str, str]:
        """The environment of a service on the real servers, with names of its own there."""
        folder = self.new_folder()
        return self._quick(
            on_services(folder, self.services, cache_timeout_s=1.0, partitions=PARTITIONS, search=search)
        )

    def new_folder(self) -> Path:
        self._names += 1
        folder = self.folder / str(self._names)
        folder.mkdir()
        return folder

    def _quick(self, environ: dict[str, str]) -> dict[str, str]:
        """Logs as in production: every line of them, in JSON. Web processes are pinned to a CPU each."""
        return {**environ, "COUPON_LOG_FORMAT": "json", "WEB_PIN_CPU": "1"}


@contextmanager
def opened(environ: dict[str, str]) -> Iterator[tuple[Settings, Backends]]:
    """The backends of a service, with all that ``coupon init`` makes; logs as it writes them."""
    loaded = settings.load(environ)
    logs.configure(loaded.log_level, loaded.log_format)
    backends = open_backends(loaded)
    try:
        backends.store.create()
        backends.search.create()
        backends.queue.create(all_topics(loaded.topics))
        yield loaded, backends
    finally:
        backends.close()


@contextmanager
def quiet() -> Iterator[None]:
    """Logs are written as in production, and go nowhere."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
