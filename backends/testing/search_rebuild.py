"""What holds for every search while its index is rebuilt."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from backends.testing.coupons import some_coupons
from backends.testing.search import answer_of, code_of, held, holds, opened, walk
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.domain.model import Coupon
from coupon.ports.search import Query, Search


class Deployed(Exception):
    """Whatever ends a rebuild too early."""


@contextmanager
def always_answering(search: Search, codes: set[str]) -> Iterator[None]:
    """Fails when search, asked again and again during the block, once does not find all of the codes."""
    stop, failures = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            try:
                found = {code_of(found) for found in walk(search, Query())}
            except Exception as error:
                failures.append(repr(error))
            else:
                failures.extend(codes - found)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == [], failures[:3]


def break_off(search: Search, meanwhile: list[Coupon], error: type[BaseException]) -> None:
    with search.rebuild() as rebuild:
        rebuild.add_many(some_coupons(10))
        search.index_many(meanwhile)
        raise error


class SearchRebuildContract:
    def test_the_index_becomes_what_the_rebuild_was_given(self, search: Search) -> None:
        right, wrong, ghosts = some_coupons(5), some_coupons(5), some_coupons(5)
        search.index_many([*right, *held(wrong, "not the holder", version=99), *ghosts])
        holds(search, [*right, *held(wrong, "not the holder", version=99), *ghosts])
        with search.rebuild() as rebuild:
            rebuild.add_many(right)
            rebuild.add_many([])
            rebuild.add_many(held(wrong, "ann"))
        found = [code_of(found) for found in walk(search, Query())]
        assert found == sorted(coupon.code for coupon in [*right, *wrong])  # at once, at the end of the block
        holds(search, [*right, *held(wrong, "ann")])
        search.index_many(held(wrong, "bob", version=3))
        holds(search, [*right, *held(wrong, "bob", version=3)])

    def test_what_is_indexed_meanwhile_is_in_both_generations(self, search: Search) -> None:
        coupons, late = some_coupons(20), some_coupons(20)
        search.index_many(coupons)
        with search.rebuild() as rebuild:
            search.index_many(late)
            search.index_many(held(coupons[:10], "ann", version=5))
            rebuild.add_many(coupons)  # as the store was before
            holds(search, [*held(coupons[:10], "ann", version=5), *coupons[10:], *late])
        holds(search, [*held(coupons[:10], "ann", version=5), *coupons[10:], *late])

    def test_an_older_document_never_overwrites_a_newer_one_in_the_next_generation(self, search: Search) -> None:
        coupons = some_coupons(5)
        with search.rebuild() as rebuild:
            rebuild.add_many(held(coupons, "bob", version=5))
            rebuild.add_many(held(coupons, "bob", version=5))
            rebuild.add_many(coupons)
            search.index_many(held(coupons, "ann", version=4))
        holds(search, held(coupons, "bob", version=5))

    def test_it_answers_all_along(self, search: Search) -> None:
        coupons = some_coupons(300)
        search.index_many(coupons)
        holds(search, coupons)
        with always_answering(search, {coupon.code for coupon in coupons}):
            for _ in range(3):
                with search.rebuild() as rebuild:
                    rebuild.add_many(coupons)

    @pytest.mark.parametrize("error", [Deployed, KeyboardInterrupt])
    def test_after_an_error_everything_is_as_if_it_had_never_begun(
        self, search: Search, error: type[BaseException]
    ) -> None:
        coupons, late = some_coupons(10), some_coupons(10)
        search.index_many(coupons)
        with pytest.raises(error):
            break_off(search, late, error)
        holds(search, [*coupons, *late])
        search.index_many(held(late, "ann"))
        holds(search, [*coupons, *held(late, "ann")])
        with search.rebuild() as rebuild:
            rebuild.add_many(coupons)
        holds(search, coupons)

    def test_it_makes_an_index_that_was_lost(self, url: str) -> None:
        """What is indexed meanwhile is in it, or unavailable: there is no present index."""
        coupons, late = some_coupons(3), some_coupons(2)
        with closing(opened(url)) as search:
            with search.rebuild() as rebuild:
                rebuild.add_many(coupons)
                why_not = answer_of(lambda search: search.index_many(late), search)
            holds(search, coupons if why_not else [*coupons, *late])

    def test_one_that_was_interrupted_is_discarded_by_the_next(self, search: Search) -> None:
        coupons = some_coupons(10)
        search.index_many(coupons)
        interrupted = search.rebuild()
        interrupted.__enter__().add_many(some_coupons(10))
        with search.rebuild() as rebuild:
            rebuild.add_many(coupons[:5])
        holds(search, coupons[:5])
        with pytest.raises(BackendRejected):
            interrupted.__exit__(None, None, None)
        holds(search, coupons[:5])

    def test_one_that_was_overtaken_never_takes_its_place(self, search: Search) -> None:
        coupons = some_coupons(10)
        search.index_many(coupons)
        overtaken, overtaking = search.rebuild(), search.rebuild()
        late = overtaken.__enter__()
        rebuild = overtaking.__enter__()
        rebuild.add_many(coupons[:3])
        with pytest.raises(BackendRejected):
            late.add_many(coupons[5:])
        with pytest.raises(BackendRejected):
            overtaken.__exit__(None, None, None)
        overtaking.__exit__(None, None, None)
        holds(search, coupons[:3])

    def test_without_its_search_it_is_unavailable_to_the_end(self, search: Search) -> None:
        rebuilding = search.rebuild()
        rebuild = rebuilding.__enter__()
        search.close()
        with pytest.raises(BackendUnavailable):
            rebuild.add_many(some_coupons(1))
        with pytest.raises(BackendUnavailable):
            rebuilding.__exit__(None, None, None)
