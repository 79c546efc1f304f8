"""What every store has to stand that several processes use at once."""

from contextlib import closing, suppress
from typing import Any

from backends.testing.coupons import after, changed, some_coupons
from backends.testing.forking import forked
from backends.testing.processes import in_processes
from backends.testing.store import opened
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Coupon
from coupon.ports.store import Record, Store

ROUNDS = 50
"""Of a race: each is won by one of four."""


class StoreAcrossProcesses:
    def test_of_processes_that_make_the_tables_at_once_none_fails(self, url: str) -> None:
        coupons = some_coupons(4)
        in_processes(create_and_save, [(url, coupon) for coupon in coupons])
        with closing(opened(url)) as store:
            assert store.get_many(coupon.code for coupon in coupons) == {coupon.code: coupon for coupon in coupons}

    def test_another_process_sees_what_was_saved_and_changes_it(self, url: str, store: Store) -> None:
        coupon = after("created")
        store.save_many([coupon])
        assert in_processes(save_next, [(url, coupon.code)]) == [True]
        assert store.get_many([coupon.code])[coupon.code].revision == 2

    def test_another_process_goes_on_behind_a_cursor_with_a_limit_of_its_own(self, url: str, store: Store) -> None:
        coupons, some = some_coupons(7), [Record("campaign", str(number), 1, "{}") for number in range(7)]
        store.save_many(coupons)
        store.save_groups([[each] for each in some])
        page, records = store.scan(3), store.scan_records("campaign", 3)
        [left] = in_processes(walk_behind, [(url, page.next, records.next)])
        found = [coupon.code for coupon in page.coupons] + [record.key for record in records.records] + left
        assert sorted(found) == sorted([*(coupon.code for coupon in coupons), *(record.key for record in some)])

    def test_of_four_processes_one_wins_each_round(self, url: str, store: Store) -> None:
        coupon = after("created")
        store.save_many([coupon])
        wins = in_processes(race, [(url, coupon.code, ROUNDS)] * 4)
        assert [sum(turn) for turn in zip(*wins, strict=True)] == [1] * ROUNDS
        assert store.get_many([coupon.code])[coupon.code].revision == ROUNDS + 1

    def test_of_four_processes_that_create_a_coupon_one_wins(self, url: str, store: Store) -> None:
        coupons = some_coupons(ROUNDS)
        wins = in_processes(race_to_create, [(url, me, coupons) for me in range(4)])
        assert [sum(turn) for turn in zip(*wins, strict=True)] == [1] * ROUNDS
        winners = [turn.index(True) for turn in zip(*wins, strict=True)]
        found = store.get_many(coupon.code for coupon in coupons)
        assert [found[coupon.code].creation_size for coupon in coupons] == winners

    def test_of_four_processes_that_write_a_group_one_wins_each_round_and_writes_it_whole(
        self, url: str, store: Store
    ) -> None:
        """Each group has a coupon and two records, in another order in each process."""
        coupon = after("created")
        store.save_many([coupon])
        store.save_groups([[Record("block", key, 1, "nobody") for key in ("0", "1")]])
        wins = in_processes(race_for_a_group, [(url, me, coupon.code, ROUNDS) for me in range(4)])
        assert [sum(turn) for turn in zip(*wins, strict=True)] == [1] * ROUNDS
        last = str([turn.index(True) for turn in zip(*wins, strict=True)][-1])
        found = store.get_records("block", ["0", "1"])
        assert [(record.revision, record.body) for record in found.values()] == [(ROUNDS + 1, last)] * 2
        stored = store.get_many([coupon.code])[coupon.code]
        assert (stored.revision, stored.user_id) == (ROUNDS + 1, last)

    def test_of_four_processes_that_create_a_record_one_wins(self, url: str, store: Store) -> None:
        wins = in_processes(race_to_create_a_record, [(url, me) for me in range(4)])
        assert [sum(turn) for turn in zip(*wins, strict=True)] == [1] * ROUNDS
        winners = {str(turn): str(won.index(True)) for turn, won in enumerate(zip(*wins, strict=True))}
        found = store.get_records("campaign", winners)
        assert {key: record.body for key, record in found.items()} == winners

    def test_a_store_that_was_used_before_a_fork_works_on_both_sides_of_it(self, store: Store) -> None:
        coupons = some_coupons(120)
        store.save_many(coupons[:60])
        with forked(lambda: store.save_many(coupons[60:])):
            for coupon in coupons[:60]:
                assert store.get_many([coupon.code]) == {coupon.code: coupon}
        assert len(store.get_many(coupon.code for coupon in coupons)) == 120


def create_and_save(url: str, coupon: Coupon, barrier: Any) -> None:
    with closing(opened(url)) as store:
        with suppress(BackendUnavailable):  # nobody has made the tables, but it is connected
            store.ping()
        barrier.wait()
        store.create()
        store.save_many([coupon])


def walk_behind(url: str, cursor: str | None, records_cursor: str | None, _: Any) -> list[str]:
    """The codes and keys that are left."""
    left = list[str]()
    with closing(opened(url)) as store:
        while cursor is not None:
            page = store.scan(2, cursor)
            left += [coupon.code for coupon in page.coupons]
            cursor = page.next
        while records_cursor is not None:
            records = store.scan_records("campaign", 2, records_cursor)
            left += [record.key for record in records.records]
            records_cursor = records.next
    return left


def save_next(url: str, code: str, _: Any) -> bool:
    store = opened(url)
    written = store.save_many([changed(store.get_many([code])[code])]) == set()
    store.close()
    return written


def race(url: str, code: str, rounds: int, barrier: Any) -> list[bool]:
    store, wins = opened(url), []
    for _ in range(rounds):
        mine = changed(store.get_many([code])[code])
        barrier.wait()
        wins.append(store.save_many([mine]) == set())
        barrier.wait()
    store.close()
    return wins


def race_to_create(url: str, me: int, coupons: list[Coupon], barrier: Any) -> list[bool]:
    store, wins = opened(url), []
    for coupon in coupons:
        barrier.wait()
        wins.append(store.save_many([coupon._replace(creation_size=me)]) == set())
    store.close()
    return wins


def race_for_a_group(url: str, me: int, code: str, rounds: int, barrier: Any) -> list[bool]:
    store, wins = opened(url), []
    for _ in range(rounds):
        coupon = changed(store.get_many([code])[code], user=str(me))
        records = store.get_records("block", ["0", "1"]).values()
        group: list[Coupon | Record] = [
            coupon,
            *(record._replace(revision=record.revision + 1, body=str(me)) for record in records),
        ]
        barrier.wait()
        wins.append(store.save_groups([group if me % 2 else group[::-1]]) == set())
        barrier.wait()
    store.close()
    return wins


def race_to_create_a_record(url: str, me: int, barrier: Any) -> list[bool]:
    store, wins = opened(url), []
    for turn in range(ROUNDS):
        barrier.wait()
        wins.append(store.save_groups([[Record("campaign", str(turn), 1, str(me))]]) == set())
    store.close()
    return wins
