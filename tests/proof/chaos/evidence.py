"""What queue, store, search and cache hold when a run has come to rest, read from the servers themselves.

It is saved, so that it can be looked at and judged again later.
"""

import gzip
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendError
from coupon.domain.model import Coupon
from coupon.domain.serialization import (
    Document,
    decode_codes,
    decode_command,
    decode_coupon,
    document,
    encode_command,
    encode_coupon,
)
from coupon.domain.topics import DEAD_LETTERS, GROUP, INVALIDATE, OUTBOX, command_topics
from coupon.ports.search import Query, Search
from coupon.ports.store import Store
from coupon.runtime.cache_entries import Confirmed, Entries, cache_key
from coupon.runtime.wiring import Backends
from tests.proof.record import Evidence, Observed, Read, Request, read

CONVERGES_S = 10.0
PAGE = 10_000
OBSERVED_MAX = 2_000


def lag(backends: Backends, layout: str) -> int:
    """Messages that the workers have not done with, what is owed included; -1 when nobody can tell."""
    try:
        return backends.queue.lag([*command_topics(layout), *OUTBOX], GROUP)
    except BackendError:
        return -1


def lag_by_topic(backends: Backends, layout: str) -> dict[str, int]:
    """The topics of which messages are left, and how many."""
    lags = {topic: backends.queue.lag([topic], GROUP) for topic in [*command_topics(layout), *OUTBOX]}
    return {topic: number for topic, number in lags.items() if number}


def is_ordered(layout: str) -> bool:
    """Whether all commands go to one topic: a coupon's are applied in the order of the queue."""
    return layout == "single"


def drain(backends: Backends, layout: str, within_s: float) -> tuple[int, float]:
    """Wait until nothing is left to do; what is left, and the seconds that it took."""
    began = time.monotonic()
    while (left := lag(backends, layout)) != 0 and time.monotonic() - began < within_s:
        time.sleep(0.2)
    return left, time.monotonic() - began


def settled(backends: Backends) -> tuple[dict[str, Coupon], dict[str, Document], float | None]:
    """The store, the documents as they are within ``CONVERGES_S`` from now, and after how many seconds these were
    first equal to the store. The store is read beside: it does not change any more."""
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        scan = pool.submit(lambda: {coupon.code: coupon for coupon in _scanned(backends.store)})
        seen: list[tuple[float, dict[str, int]]] = []
        while True:
            documents = {found["couponCode"]: found for found in _paged(backends.search)}
            seen.append((time.monotonic() - began, {code: found["version"] for code, found in documents.items()}))
            if time.monotonic() - began > CONVERGES_S - 1 or (scan.done() and _equal(scan.result(), documents)):
                break
            time.sleep(0.5)
        coupons = scan.result()
    versions = {code: coupon.version for code, coupon in coupons.items()}
    converged = next((at for at, found in seen if found == versions), None)
    return coupons, documents, converged


def collect(backends: Backends, layout: str, into: Evidence) -> None:
    """The queue's log, and what the cache holds of the coupons of the store."""
    into.ordered = is_ordered(layout)
    into.commands = [
        decode_command(found.value) for topic in command_topics(layout) for found in backends.queue.browse(topic)
    ]
    into.dead_letters = [json.loads(found.value)["reason"] for found in backends.queue.browse(DEAD_LETTERS)]
    for found in backends.queue.browse(INVALIDATE):
        into.owed_to_the_cache.update(decode_codes(found.value))
    entries = Entries(CodeDeriver(into.secret))
    for code in into.coupons:
        cached = backends.cache.get(cache_key(code))
        entry = None if cached is None else entries.decode(code, cached.value)
        if isinstance(entry, Confirmed):
            into.cached[code] = entry.coupon


def ask_addresses(ask: Callable[[str], object], folder: Path) -> None:
    """Ask the addresses of what was accepted, or of so many of it."""
    with (folder / "clients.jsonl").open() as file:
        addresses = sorted({r.address for r in read(file) if isinstance(r, Request) and r.accepted})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, random.sample(addresses, min(len(addresses), OBSERVED_MAX))))


def read_clients(folder: Path, into: Evidence) -> None:
    with (folder / "clients.jsonl").open() as file:
        for record in read(file):
            match record:
                case Request():
                    into.requests.append(record)
                case Observed():
                    into.observed.append(record)
                case Read():
                    into.reads.append(record)


def save(folder: Path, evidence: Evidence) -> None:
    """All but what the clients saw, which is there already."""
    _write(folder / "queue.jsonl.gz", (encode_command(command).decode() for command in evidence.commands))
    _write(folder / "store.jsonl.gz", (encode_coupon(coupon).decode() for coupon in evidence.coupons.values()))
    _write(folder / "cache.jsonl.gz", (encode_coupon(coupon).decode() for coupon in evidence.cached.values()))
    _write(folder / "documents.jsonl.gz", map(json.dumps, evidence.documents.values()))
    _write(folder / "letters.jsonl.gz", map(json.dumps, evidence.dead_letters))
    _write(folder / "owed.jsonl.gz", map(json.dumps, sorted(evidence.owed_to_the_cache)))


def load(folder: Path, secret: str, layout: str) -> Evidence:
    """A saved run."""
    evidence = Evidence(secret, ordered=is_ordered(layout))
    read_clients(folder, evidence)
    evidence.commands = [decode_command(line) for line in _lines(folder / "queue.jsonl.gz")]
    evidence.dead_letters = [json.loads(line) for line in _lines(folder / "letters.jsonl.gz")]
    evidence.owed_to_the_cache = {json.loads(line) for line in _lines(folder / "owed.jsonl.gz")}
    evidence.documents = {d["couponCode"]: d for d in map(json.loads, _lines(folder / "documents.jsonl.gz"))}
    for name, into in (("store", evidence.coupons), ("cache", evidence.cached)):
        into |= {coupon.code: coupon for coupon in map(decode_coupon, _lines(folder / f"{name}.jsonl.gz"))}
    return evidence


def _scanned(store: Store) -> Iterator[Coupon]:
    cursor = None
    while True:
        page = store.scan(1_000, cursor)
        yield from page.coupons
        cursor = page.next
        if cursor is None:
            return


def _paged(search: Search) -> Iterator[Document]:
    after = ""
    while page := search.find(Query(), PAGE, after):
        yield from page
        after = page[-1]["couponCode"]
        if len(page) < PAGE:
            return


def _equal(coupons: dict[str, Coupon], documents: dict[str, Document]) -> bool:
    return len(coupons) == len(documents) and all(
        documents.get(code) == document(coupon) for code, coupon in coupons.items()
    )


def _write(path: Path, lines: Iterable[str]) -> None:
    with gzip.open(path, "wt", compresslevel=3) as file:
        file.writelines(line + "\n" for line in lines)


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as file:
        yield from file
