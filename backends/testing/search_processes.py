"""What a search that several processes see has to stand beyond that."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends.testing.coupons import some_coupons
from backends.testing.forking import forked
from backends.testing.search import code_of, held, holds, opened, settles, walk
from coupon.domain.errors import BackendUnavailable
from coupon.ports.search import Query, Search

SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def process(work: Any, *arguments: Any) -> Iterator[Any]:
    """The work in a process of its own, which ends well after the block."""
    running = SPAWN.Process(target=work, args=arguments)
    running.start()
    try:
        yield running
    finally:
        running.join(60)
        running.kill()
    assert running.exitcode == 0


class SearchAcrossProcesses:
    def test_processes_see_each_others_documents(self, url: str, search: Search) -> None:
        coupons = some_coupons(20)
        search.index_many(held(coupons, "ann", version=3))
        with process(index, url, held(coupons[:10], "bob", version=4) + held(coupons[10:], "bob", version=2)):
            pass
        holds(search, held(coupons[:10], "bob", version=4) + held(coupons[10:], "ann", version=3))

    def test_of_processes_that_make_the_index_at_once_one_does(self, url: str) -> None:
        coupons, barrier = some_coupons(40), SPAWN.Barrier(4)
        with (
            process(create_and_index, url, coupons[:10], barrier),
            process(create_and_index, url, coupons[10:20], barrier),
            process(create_and_index, url, coupons[20:30], barrier),
            process(create_and_index, url, coupons[30:], barrier),
        ):
            pass
        search = opened(url)
        holds(search, coupons)
        search.close()

    def test_no_document_is_lost_of_processes_that_index_during_rebuilds(
        self, url: str, search: Search, tmp_path: Path
    ) -> None:
        """The lines of a file stand for the store: each coupon is saved there before it is indexed."""
        stores, stop = [tmp_path / "one", tmp_path / "two"], SPAWN.Event()
        for store in stores:
            store.touch()
        with process(save_and_index, url, stores[0], stop), process(save_and_index, url, stores[1], stop):
            for _ in range(4):
                grows(stores)
                with search.rebuild() as rebuild:
                    rebuild.add_many(saved(stores))
                    grows(stores)
            grows(stores)
            stop.set()
        holds(search, saved(stores))

    def test_another_process_is_answered_all_along_a_rebuild(self, url: str, search: Search) -> None:
        coupons = some_coupons(200)
        search.index_many(coupons)
        holds(search, coupons)
        begun, stop = SPAWN.Event(), SPAWN.Event()
        with process(look, url, {coupon.code for coupon in coupons}, begun, stop):
            assert begun.wait(30)
            for _ in range(3):
                with search.rebuild() as rebuild:
                    rebuild.add_many(coupons)
            stop.set()

    def test_what_a_killed_rebuild_left_is_discarded_by_the_next(self, url: str, search: Search) -> None:
        coupons, late = some_coupons(10), some_coupons(10)
        search.index_many(coupons)
        begun = SPAWN.Event()
        rebuilding = SPAWN.Process(target=rebuild_indefinitely, args=(url, some_coupons(10), begun))
        rebuilding.start()
        assert begun.wait(30)
        os.kill(rebuilding.pid or 0, signal.SIGKILL)
        rebuilding.join()
        search.index_many(late)
        holds(search, [*coupons, *late])
        with search.rebuild() as rebuild:
            rebuild.add_many(coupons)
            search.index_many(held(coupons[:5], "ann"))
        holds(search, [*held(coupons[:5], "ann"), *coupons[5:]])

    def test_a_search_that_was_used_before_a_fork_works_on_both_sides_of_it(self, search: Search) -> None:
        coupons = some_coupons(60)
        search.index_many(coupons[:30])
        holds(search, coupons[:30])
        with forked(lambda: one_by_one(search, coupons[30:])):
            one_by_one(search, held(coupons[:30], "ann"))
        holds(search, [*held(coupons[:30], "ann"), *coupons[30:]])


def index(url: str, coupons: Any) -> None:
    search = opened(url)
    search.index_many(coupons)
    search.close()


def one_by_one(search: Search, coupons: Any) -> None:
    for coupon in coupons:
        search.index_many([coupon])
        search.find(Query(), 10)


def create_and_index(url: str, coupons: Any, barrier: Any) -> None:
    search = opened(url)
    barrier.wait(30)
    search.create()
    search.index_many(coupons)
    search.close()


def save_and_index(url: str, store: Path, stop: Any) -> None:
    search = opened(url)
    with store.open("a", buffering=1) as file:
        while not stop.is_set():
            [coupon] = some_coupons(1)
            file.write(f"{coupon.code}\n")
            index_until_it_is(search, [coupon])
    search.close()


def index_until_it_is(search: Search, coupons: Any) -> None:
    while True:
        try:
            return search.index_many(coupons)
        except BackendUnavailable:
            threading.Event().wait(0.01)


def saved(stores: list[Path]) -> Any:
    """The coupons whose lines are whole."""
    [sample] = some_coupons(1)
    codes = [code for store in stores for code in store.read_text().split("\n")[:-1]]
    return [sample._replace(code=code) for code in codes]


def grows(stores: list[Path]) -> None:
    """Both processes save and index some more."""
    before = len(saved(stores[:1])), len(saved(stores[1:]))
    settles(lambda: len(saved(stores[:1])) > before[0] + 10 and len(saved(stores[1:])) > before[1] + 10, True)


def look(url: str, codes: set[str], begun: Any, stop: Any) -> None:
    search = opened(url)
    while not stop.is_set():
        assert {code_of(found) for found in walk(search, Query())} == codes
        begun.set()
    search.close()


def rebuild_indefinitely(url: str, coupons: Any, begun: Any) -> None:
    with opened(url).rebuild() as rebuild:
        rebuild.add_many(coupons)
        begun.set()
        threading.Event().wait()
