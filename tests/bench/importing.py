"""``coupon import`` on SQLite files: its own process, and a worker's.

Memory is compared with an import of a window, which is as many rows as are ever on their way.
"""

import subprocess
import sys
import time
from pathlib import Path

from coupon.bulk.importer import WINDOW
from coupon.domain.topics import GROUP, work_topics
from coupon.ports.search import Query, Search
from tests.bench.figure import Figure
from tests.bench.place import Place, opened, quiet
from tests.bench.processes import FLAT, coupon
from tests.e2e.deployment import ROOT, Deployment, rss_peak_mb

ROWS, FEW = 100_000, WINDOW
ROUNDS = 5


def figures(place: Place) -> list[Figure]:
    """Seconds from the start of the command until the last row is found by search, and the memory of both processes."""
    seconds = Figure(f"import of {ROWS:,} rows on SQLite until searchable", "s", at_most=20)
    less = f"with {FEW:,} rows"
    importer = Figure(f"peak memory of an import of {ROWS:,} rows", "MB", less, at_most=FLAT)
    worker = Figure(f"peak memory of the worker, importing {ROWS:,} rows", "MB", less, at_most=FLAT)
    many, few = generated(place.folder, ROWS), generated(place.folder, FEW)
    for _ in range(ROUNDS):
        _, importer_mb, worker_mb = imported(place, few, FEW)
        importer.against.append(importer_mb)
        worker.against.append(worker_mb)
        taken_s, importer_mb, worker_mb = imported(place, many, ROWS)
        seconds.ours.append(taken_s)
        importer.ours.append(importer_mb)
        worker.ours.append(worker_mb)
    return [seconds, importer, worker]


def imported(place: Place, file: Path, rows: int) -> tuple[float, float, float]:
    """Seconds; peaks of importer and worker."""
    environ = place.embedded()
    with quiet(), opened(environ) as (loaded, backends):
        service = Deployment(environ)
        process = service.start_worker()
        try:
            began = time.perf_counter()
            taken = coupon(environ, "import", str(file))
            while backends.queue.lag(work_topics(loaded.topics), GROUP):
                time.sleep(0.02)
            seconds = time.perf_counter() - began
            assert _found(backends.search) == rows
            return seconds, taken.peak_mb, rss_peak_mb(process.pid)
        finally:
            service.__exit__()


def _found(search: Search) -> int:
    count, after = 0, ""
    while page := search.find(Query(), 10_000, after):
        count, after = count + len(page), page[-1]["couponCode"]
    return count


def generated(folder: Path, rows: int, seed: int = 1) -> Path:
    """A file of so many rows; another seed gives others."""
    file = folder / f"{rows}-{seed}.csv"
    command = [sys.executable, "conf/generate_coupons.py", f"--seed={seed}", str(rows)]
    with file.open("wb") as out:
        subprocess.run(command, cwd=ROOT, stdout=out, check=True)
    return file
