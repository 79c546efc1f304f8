"""What ``test_edge`` runs under faults at the drivers' edge: ``python -m tests.proof.at_the_edge ROLE URL FOLDER``.

It works until it saw each kind of fault, and writes what has to be in the server then to ``<pid>.pickle``. So does a
child, which is forked when the driver's client is there already.
"""

import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from backends.testing.coupons import changed, some_coupons
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Coupon
from coupon.ports.search import Query, Search
from coupon.ports.store import Store
from coupon.runtime.wiring import open_backend

ROUNDS_MIN, LONGEST_S = 40, 30.0
KINDS = {
    "store": {
        "dynamodb-throughput",
        "dynamodb-throttled",
        "dynamodb-internal-error",
        "dynamodb-lost-reply",
        "dynamodb-in-progress",
        "dynamodb-conflict",
        "dynamodb-item-throttled",
        "dynamodb-unprocessed-keys",
    },
    "search": {"elasticsearch-429", "elasticsearch-503", "elasticsearch-lost-reply", "elasticsearch-bulk-items"},
}
Answer = TypeVar("Answer")


class Outcome(NamedTuple):
    written: list[Coupon]
    """As they have to be in the end."""
    unknown: list[Coupon]
    """Those that may be there or not."""


def use_store(store: Store, rounds: Iterator[None]) -> Outcome:
    """Creates and changes coupons, with patience; a rival that comes too late has to be told so for each of them."""
    written: list[Coupon] = []
    for _ in rounds:
        new = some_coupons(8)
        later = [changed(coupon) for coupon in new[:4]]
        save(store, new)
        save(store, later)
        truth = later + new[4:]
        found = answer_of(store.get_many, [coupon.code for coupon in truth])
        assert found in (None, {coupon.code: coupon for coupon in truth})
        late = [*new[:2], *map(changed, new[2:4])]
        assert answer_of(store.save_many, late) in (None, {coupon.code for coupon in late})
        written += truth
    return Outcome(written, [])


def save(store: Store, coupons: list[Coupon]) -> None:
    """There is no rival: a conflict can only be with an attempt of which nobody knew."""
    ours: set[str] = set()
    while (conflicts := answer_of(store.save_many, coupons)) is None:
        ours = {coupon.code for coupon in coupons}
    assert conflicts <= ours


def use_search(search: Search, rounds: Iterator[None]) -> Outcome:
    """Indexes documents, each once: those of which it was not told that they are not there have to be."""
    outcome = Outcome([], [])
    for _ in rounds:
        coupons = some_coupons(8)
        try:
            search.index_many(coupons)
            outcome.written.extend(coupons)
        except BackendUnavailable:
            outcome.unknown.extend(coupons)
        assert answer_of(search.find, Query(user_id="nobody"), 10) in (None, [])
    return outcome


def answer_of(call: Callable[..., Answer], *arguments: Any) -> Answer | None:
    """None when it is unavailable."""
    try:
        return call(*arguments)
    except BackendUnavailable:
        return None


def until_all_were_seen(kinds: set[str], folder: Path) -> Iterator[None]:
    """Rounds of work, at least so many that each kind is seen several times, and bounded in time."""
    seen = folder / f"{os.getpid()}.edge"
    deadline = time.monotonic() + LONGEST_S
    for number in count():
        if (number >= ROUNDS_MIN and kinds <= set(seen.read_text().split())) or time.monotonic() > deadline:
            return
        yield


def main(role: str, url: str, folder: Path) -> None:
    kinds: dict[str, tuple[type[Any], Callable[[Any, Iterator[None]], Outcome]]]
    kinds = {"store": (Store, use_store), "search": (Search, use_search)}
    kind, use = kinds[role]
    backend = open_backend(kind, url)
    answer_of(backend.ping)
    child = os.fork()
    outcome = use(backend, until_all_were_seen(KINDS[role], folder))
    backend.close()
    (folder / f"{os.getpid()}.pickle").write_bytes(pickle.dumps(tuple(outcome)))
    if child:
        assert os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
