"""``coupon reindex`` and ``coupon export`` on SQLite files, each a process of its own, beside the bare end of its work.

Reindex beside bare inserts of the same documents, ready-made, a thousand in a transaction, into an equal table. Export
beside the shortest program that writes the same lines: a SELECT of documents that are ready-made in a table, and
``csv.DictWriter`` or ``json``. (To write lines that are strings already is a copy of memory, and tells nothing of what
has to read and make them.) On our side only: reading the store in the order of codes, decoding histories, making the
documents, starting the process.

Each round takes a minute. Memory is compared with a hundredth of the coupons.
"""

import csv
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from coupon.bulk.scan import PAGE
from coupon.domain.codes import CodeDeriver
from coupon.domain.serialization import Document
from tests.bench.bare_sqlite import BareFile, Rows, batches_of, path_of
from tests.bench.figure import Figure
from tests.bench.growth import fill
from tests.bench.place import Place, opened, quiet
from tests.bench.processes import FLAT, coupon

COUPONS, FEW = 1_000_000, 10_000
ROUNDS = 5
YARDSTICKS = {
    "reindex": "bare batched inserts",
    "export": "SELECT and csv.DictWriter",
    "export --json": "SELECT and json",
}
FIELDS, BOOLEANS = list(Document.__annotations__), ("issued", "used")
WITH_DASHES = "substr(couponCode, 1, 5) || '-' || substr(couponCode, 6, 6) || '-' || substr(couponCode, 12)"
COLUMNS = {field: field for field in FIELDS} | {"couponCode": WITH_DASHES}
Took = tuple[float, float]
"""By the clock, and of CPU."""


class Site(NamedTuple):
    """A service whose store is full, and where its search is."""

    environ: dict[str, str]
    search: Path


def figures(place: Place) -> list[Figure]:
    """Of reindex, of export as CSV, of export as JSON: by CPU time, by the clock, and their memory."""
    with quiet():
        many, few = filled(place, COUPONS), filled(place, FEW)
        lines = place.folder / "lines"
        export = ["export", "--force", str(lines)]
        return [
            *_of_command("reindex", ["reindex"], lambda: bare_inserts(many, place.folder), many, few),
            *_of_command("export", export, lambda: bare_csv(many, lines), many, few),
            *_of_command("export --json", [*export, "--json"], lambda: bare_json(many, lines), many, few),
        ]


def _of_command(name: str, arguments: list[str], yardstick: Callable[[], Took], many: Site, few: Site) -> list[Figure]:
    title = f"coupon {name} of {COUPONS:,} on SQLite"
    against = YARDSTICKS[name]
    wall = Figure(title, "/s", against, at_least=0.5)
    cpu = Figure(f"{title}, by CPU time", "/s", against, at_least=0.5)
    memory = Figure(f"peak memory of coupon {name} of {COUPONS:,}", "MB", f"of {FEW:,}", at_most=FLAT)
    for _ in range(ROUNDS):
        memory.against.append(coupon(few.environ, *arguments).peak_mb)
        taken = coupon(many.environ, *arguments)
        memory.ours.append(taken.peak_mb)
        for figure, ours, theirs in zip((wall, cpu), taken, yardstick(), strict=False):
            figure.ours.append(COUPONS / ours)
            figure.against.append(COUPONS / theirs)
    return [wall, cpu, memory]


def filled(place: Place, coupons: int) -> Site:
    environ = place.embedded()
    with opened(environ) as (loaded, backends):
        fill(backends.store.save_many, CodeDeriver(loaded.secret), 0, coupons)
        return Site(environ, path_of(loaded.search_url))


def bare_inserts(site: Site, folder: Path) -> Took:
    """Into a new file each time. What reads the documents is not counted."""
    path, wall_s, cpu_s = folder / "bare.db", 0.0, 0.0
    bare, statement = BareFile(path), f"INSERT INTO documents VALUES ({', '.join('?' * len(FIELDS))})"
    bare.make_tables_of(site.search)
    for rows in batches_of(site.search, "SELECT * FROM documents ORDER BY couponCode", PAGE):
        cpu, wall = time.process_time(), time.perf_counter()
        bare.write(statement, rows)
        wall_s, cpu_s = wall_s + time.perf_counter() - wall, cpu_s + time.process_time() - cpu
    bare.close()
    for file in folder.glob("bare.db*"):
        file.unlink()
    return wall_s, cpu_s


def bare_csv(site: Site, lines: Path) -> Took:
    columns = ", ".join((COLUMNS | {field: f"iif({field}, 'true', 'false')" for field in BOOLEANS}).values())
    with lines.with_suffix(".bare").open("w", newline="") as out:
        writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
        writer.writeheader()
        took = bare_export(
            site, columns, lambda rows: writer.writerows(dict(zip(FIELDS, row, strict=True)) for row in rows)
        )
    return _same(lines, took)


def bare_json(site: Site, lines: Path) -> Took:
    encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

    def line(row: Sequence[Any]) -> str:
        fields = dict(zip(FIELDS, row, strict=True))
        fields |= {name: bool(fields[name]) for name in BOOLEANS}
        return encode(fields) + "\n"

    with lines.with_suffix(".bare").open("w") as out:
        took = bare_export(site, ", ".join(COLUMNS.values()), lambda rows: out.writelines(map(line, rows)))
    return _same(lines, took)


def bare_export(site: Site, columns: str, write: Callable[[Rows], object]) -> Took:
    cpu, wall = time.process_time(), time.perf_counter()
    for rows in batches_of(site.search, f"SELECT {columns} FROM documents ORDER BY couponCode", PAGE):
        write(rows)
    return time.perf_counter() - wall, time.process_time() - cpu


def _same(lines: Path, took: Took) -> Took:
    assert lines.with_suffix(".bare").stat().st_size == lines.stat().st_size
    return took
