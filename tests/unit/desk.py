"""A service on memory backends with a worker that is driven by hand, into which tests import files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from coupon.acceptance.requests import Caller
from coupon.acceptance.service import CommandService
from coupon.bulk.csv_rows import BadRow
from coupon.bulk.duplicates import DuplicateFinder
from coupon.bulk.importer import Counts, Importer, checked_rows, find_duplicates
from coupon.bulk.row_file import open_rows
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Kind
from coupon.domain.topics import all_topics
from coupon.runtime import settings
from coupon.runtime.wiring import Backends, open_backends
from coupon.worker.worker import Worker, join

DAYS = "20260101, 20991231"


def code(number: int) -> str:
    return f"CODE{number:015d}"


class Desk:
    """A service on memory backends, a worker, and files to import."""

    def __init__(self, loaded: settings.Settings, backends: Backends, tmp_path) -> None:
        self.loaded, self.backends, self.path = loaded, backends, tmp_path / "rows.csv"
        self.service = CommandService(backends, loaded)
        self.worker = Worker(backends, loaded, join(backends, loaded))
        self.bad: list[BadRow] = []
        self.away: list[tuple[str, str]] = []
        self.turns = 0

    def write(self, *lines: str) -> None:
        self.path.write_text("\n".join(lines))

    def work(self, _: int = 0) -> None:
        self.turns += 1
        self.worker.run_once(poll_s=0)

    def run(self, *lines: str, pause="work", on_progress=lambda _: None) -> Counts:
        self.bad = []
        if lines:
            self.write(*lines)
        pause = self.work if pause == "work" else pause
        importer = Importer(self.service, self.backends.store, self.bad.append, pause, self.waiting_for)
        with open_rows(str(self.path)) as file, DuplicateFinder(self.path.stat().st_size) as finder:
            find_duplicates(file, finder, lambda _: None)
            return importer.run(checked_rows(file, finder.duplicates()), on_progress)

    def waiting_for(self, role: str) -> Callable[[BackendUnavailable], None]:
        return lambda error: self.away.append((role, str(error)))

    def stored(self, number: int):
        return self.backends.store.get_many([code(number)]).get(code(number))

    def change(self, kind: Kind, number: int, user_id: str | None = None) -> None:
        while self.worker.run_once(poll_s=0):
            pass
        self.service.change(kind, code(number), user_id, Caller("shop"))
        self.work()

    def reasons(self) -> dict[int, str]:
        return {row.line: row.reason for row in self.bad}


@contextmanager
def a_desk(folder: Path) -> Iterator[Desk]:
    loaded = settings.load(
        {
            "COUPON_CONF": "conf/test.env",
            "COUPON_HEARTBEAT_FILE": str(folder / "worker.heartbeat"),
            "COUPON_LOG_LEVEL": "error",
            "COUPON_QUEUE_URL": "memory://?partitions=1",  # of two imports, the first is applied first
        }
    )
    backends = open_backends(loaded)
    backends.store.create()
    backends.search.create()
    backends.queue.create(all_topics(loaded.topics))
    yield Desk(loaded, backends, folder)
    backends.close()
