"""An issue in the worker on SQLite files, beside the same rows written by hand.

By hand, each batch of 500 is three transactions under the same lock: the store's rows, search's rows and the queue's
offsets. No message is read or decoded, nothing is decided, no condition is compared, nothing is logged.
"""

import gc
import json
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from coupon.acceptance.requests import Caller
from coupon.acceptance.service import CommandService
from coupon.domain.model import Kind
from coupon.domain.topics import GROUP
from coupon.runtime.settings import Settings
from coupon.worker.worker import Worker, join
from tests.bench.bare_sqlite import BareFile, Rows, batches, path_of, rows_of
from tests.bench.figure import ROUNDS, Figure
from tests.bench.place import Place, opened, quiet
from tests.bench.web_cpu import coupons
from tests.bench.worker_cpu import drain

COMMANDS = 2_000
YARDSTICK = "the same rows by bare batched writes"


def figures(place: Place) -> list[Figure]:
    """By CPU time, and by the clock."""
    cpu = Figure("issues in the worker on SQLite, by CPU time", "/s", YARDSTICK, at_least=0.3)
    wall = Figure("issues in the worker on SQLite", "/s", YARDSTICK, at_least=0.3)
    with quiet(), opened(place.embedded()) as (loaded, backends):
        codes = coupons(loaded, backends, ROUNDS * COMMANDS)
        service, worker = CommandService(backends, loaded), Worker(backends, loaded, join(backends, loaded))
        drain_of_nothing(worker)
        bare = Bare(place.folder, loaded)
        for _ in range(ROUNDS):
            chosen = list(islice(codes, COMMANDS))
            for code in chosen:
                service.change(Kind.ISSUE, code, "ann", Caller("bench"))
            measure(lambda: drain(worker, COMMANDS), cpu.ours, wall.ours)
            bare.read(chosen)
            measure(bare.write, cpu.against, wall.against)
        bare.close()
    return [cpu, wall]


def drain_of_nothing(worker: Worker) -> None:
    """So that the worker has its partitions."""
    worker.run_once(poll_s=0)


def measure(work: Callable[[], object], cpu: list[float], wall: list[float]) -> None:
    """Commands a second; garbage is collected before, and not during."""
    gc.collect()
    gc.disable()
    cpu_before, before = time.process_time(), time.perf_counter()
    work()
    wall.append(COMMANDS / (time.perf_counter() - before))
    cpu.append(COMMANDS / (time.process_time() - cpu_before))
    gc.enable()


class Bare:
    """Copies of the three files, to which the worker's rows are written."""

    def __init__(self, folder: Path, loaded: Settings) -> None:
        self._sources = [path_of(url) for url in (loaded.store_url, loaded.search_url, loaded.queue_url)]
        self._files = [BareFile(folder / f"bare-{path.name}") for path in self._sources]
        for file, source in zip(self._files, self._sources, strict=True):
            file.copy(source)
        self._batch_max = loaded.batch_max
        self._rows: list[Rows] = []

    def read(self, codes: Sequence[str]) -> None:
        """The rows as the worker left them, in the order of the commands."""
        store, search, queue = self._sources
        among_codes = "IN (SELECT value FROM json_each(?))"
        coupons, documents, offsets = (
            rows_of(store, f"SELECT * FROM coupons WHERE code {among_codes}", [json.dumps(codes)]),
            rows_of(search, f"SELECT * FROM documents WHERE couponCode {among_codes}", [json.dumps(codes)]),
            rows_of(queue, "SELECT next, party, place FROM cursors WHERE party = ?", [GROUP]),
        )
        self._rows = [key_last(coupons, codes), key_last(documents, codes), offsets]

    def write(self) -> None:
        coupons, documents, offsets = self._rows
        store, search, queue = self._files
        for some, same in zip(batches(coupons, self._batch_max), batches(documents, self._batch_max), strict=True):
            store.update("coupons", "code", some)
            search.update("documents", "couponCode", same)
            queue.write("UPDATE cursors SET next = ? WHERE party = ? AND place = ?", offsets)

    def close(self) -> None:
        for file in self._files:
            file.close()


def key_last(rows: Rows, order: Sequence[str]) -> Rows:
    """The rows in that order of their first columns, which come last."""
    by_key = {row[0]: (*row[1:], row[0]) for row in rows}
    return [by_key[key] for key in order]
