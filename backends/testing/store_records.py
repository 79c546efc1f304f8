"""What every store has to stand of records of other kinds than coupons, and of groups of them.

A subclass is one of ``store.StoreContract`` too, which gives the fixtures. ``spoilt_records.SpoiltRecords`` is for
stores in which a row can be no record.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from backends.testing.coupons import a_full_coupon, after, changed, some_coupons
from backends.testing.interleaving import meet, moments
from backends.testing.threads import beside, together
from coupon.domain.errors import BackendRejected
from coupon.domain.model import Coupon
from coupon.ports.store import BODY_BYTES, GROUP_MAX, KEY_BYTES, Group, Record, Store

KEYS = [
    "k",
    "spring/7",
    "홍길동",
    "Zoë 🎟 O'Neill",
    '"; DROP TABLE records; --',
    "\\u0041\\",
    " a\tb\n",
    "~",
    "x" * KEY_BYTES,
]
BODIES = ["", "{}", '{"taken":{"홍길동":1}}', "🎟" * (BODY_BYTES // 4), "x" * BODY_BYTES]


def record(key: str = "spring", revision: int = 1, body: str = "{}", kind: str = "campaign") -> Record:
    return Record(kind, key, revision, body)


def records(number: int, kind: str = "campaign") -> list[Record]:
    return [record(f"{index:05d}", body=str(index), kind=kind) for index in range(number)]


def by_key(some: Sequence[Record]) -> dict[str, Record]:
    return {each.key: each for each in some}


def alone(some: Sequence[Coupon | Record]) -> list[Group]:
    """Each a group of its own."""
    return [[each] for each in some]


def walk_records(store: Store, kind: str, limit: int) -> list[Record]:
    page, found = store.scan_records(kind, limit), list[Record]()
    while True:
        assert len(page.records) <= limit
        found += page.records
        if page.next is None:
            return found
        page = store.scan_records(kind, limit, page.next)


class StoreRecordsContract:
    @pytest.mark.parametrize("key", KEYS)
    def test_any_text_is_a_key(self, store: Store, key: str) -> None:
        assert store.save_groups([[record(key)]]) == set()
        assert store.get_records("campaign", [key, "another"]) == {key: record(key)}
        assert walk_records(store, "campaign", 1) == [record(key)]

    @pytest.mark.parametrize("body", BODIES, ids=len)
    def test_a_body_is_read_as_it_was_written(self, store: Store, body: str) -> None:
        store.save_groups([[record(body=body)]])
        assert store.get_records("campaign", ["spring"])["spring"].body == body

    def test_nothing_asked_is_nothing_answered(self, store: Store) -> None:
        assert store.get_records("campaign", []) == {}
        assert store.save_groups([]) == set()
        assert walk_records(store, "campaign", 10) == []

    def test_a_key_is_of_its_kind(self, store: Store) -> None:
        one, other = record(body="one"), record(body="other", kind="block")
        assert store.save_groups([[one], [other]]) == set()
        assert store.get_records("campaign", ["spring"]) == {"spring": one}
        assert store.get_records("block", ["spring"]) == {"spring": other}
        assert store.get_records("key", ["spring"]) == {}
        assert walk_records(store, "block", 10) == [other]

    def test_keys_may_come_as_any_iterable_more_than_once_and_be_none(self, store: Store) -> None:
        store.save_groups(alone(records(250)))
        keys = [each.key for each in records(250)] * 2
        none = ["", "\ud800", "00001\0", "x" * 3_000]
        assert store.get_records("campaign", (key for key in [*keys, *none])) == by_key(records(250))

    @pytest.mark.parametrize("revision", [1, 2, 3, 5])
    def test_only_the_next_revision_is_written(self, store: Store, revision: int) -> None:
        for step in (1, 2, 3):
            assert store.save_groups([[record(revision=step, body=str(step))]]) == set()
        assert store.save_groups([[record(revision=revision, body="late")]]) == {0}
        assert store.get_records("campaign", ["spring"])["spring"].body == "3"
        assert store.save_groups([[record(revision=4, body="next")]]) == set()

    def test_a_change_of_what_is_not_there_fails(self, store: Store) -> None:
        assert store.save_groups([[record(revision=2)]]) == {0}
        assert store.get_records("campaign", ["spring"]) == {}

    def test_of_a_group_a_coupon_below_revision_one_fails_its_condition(self, store: Store) -> None:
        [coupon] = some_coupons(1)
        assert store.save_groups([[coupon._replace(revision=0), record()], [record("other")]]) == {0}
        assert store.get_many([coupon.code]) == {}
        assert store.get_records("campaign", ["spring", "other"]) == {"other": record("other")}

    @pytest.mark.parametrize("spoilt", range(4))
    def test_a_group_is_written_whole_or_not_at_all(self, store: Store, spoilt: int) -> None:
        there, new = after("created"), after("created")
        store.save_many([there])
        store.save_groups([[record(body="before")]])
        group: list[Coupon | Record] = [changed(there), new, record(revision=2, body="after"), record("new")]
        refused = list(group)
        refused[spoilt] = refused[spoilt]._replace(revision=7)
        assert store.save_groups([refused]) == {0}
        assert store.get_many([there.code, new.code]) == {there.code: there}
        assert store.get_records("campaign", ["spring", "new"]) == {"spring": record(body="before")}
        assert store.save_groups([group]) == set()
        assert store.get_many([there.code, new.code]) == {there.code: changed_as(group[0]), new.code: new}
        assert store.get_records("campaign", ["spring", "new"]) == {"spring": group[2], "new": group[3]}

    def test_groups_do_not_hinder_each_other(self, store: Store) -> None:
        store.save_groups(alone(records(40)[::4]))
        groups = alone(records(40))
        assert store.save_groups(groups) == set(range(0, 40, 4))
        assert by_key(walk_records(store, "campaign", 7)) == by_key(records(40))

    def test_a_group_may_have_a_hundred_coupons_and_records(self, store: Store) -> None:
        coupons = some_coupons(GROUP_MAX // 2)
        assert store.save_groups([[*coupons, *records(GROUP_MAX // 2)]]) == set()
        assert store.get_many(each.code for each in coupons) == {each.code: each for each in coupons}
        assert store.get_records("campaign", by_key(records(100))) == by_key(records(GROUP_MAX // 2))

    def test_a_group_may_weigh_two_megabytes(self, store: Store) -> None:
        coupons = [a_full_coupon(user="🎟" * 128) for _ in range(20)]
        group: list[Coupon | Record] = [*coupons, *(record(str(n), body="x" * 200_000) for n in range(5))]
        assert store.save_groups([group]) == set()
        assert len(store.get_records("campaign", map(str, range(5)))) == 5

    def test_saving_again_changes_nothing_and_says_so(self, store: Store) -> None:
        groups = [[record("a"), record("b")], [record("c")]]
        store.save_groups(groups[:1])  # the reply got lost
        assert store.save_groups(groups) == {0}
        assert store.get_records("campaign", "abc") == by_key([record("a"), record("b"), record("c")])

    @pytest.mark.parametrize(
        "group",
        [
            [],
            records(GROUP_MAX + 1),
            [record(), record(revision=2)],
            [record(key="")],
            [record(key="x" * (KEY_BYTES + 1))],
            [record(key="\ud800")],
            [record(key="a\0b")],
            [record(kind="coupon")],
            [record(kind="Campaign")],
            [record(kind="")],
            [record(revision=0)],
            [record(body="x" * (BODY_BYTES + 1))],
            [record(body="\ud800")],
            [record(body="a\0b")],
            [record(str(n), body="x" * BODY_BYTES) for n in range(9)],
        ],
        ids=lambda group: f"{len(group)}",
    )
    def test_what_is_beyond_the_limits_is_rejected_and_nothing_is_written(self, store: Store, group: Group) -> None:
        with pytest.raises(BackendRejected):
            store.save_groups([[record("before")], group])
        assert store.get_records("campaign", ["before", "spring", "00000", "0"]) == {}

    def test_a_member_of_two_groups_is_rejected(self, store: Store) -> None:
        with pytest.raises(BackendRejected):
            store.save_groups([[record()], [record(revision=2)]])

    @pytest.mark.parametrize("kind", ["coupon", "", "A", "a b"])
    def test_what_is_no_kind_is_rejected(self, store: Store, kind: str) -> None:
        with pytest.raises(BackendRejected):
            store.get_records(kind, ["spring"])
        with pytest.raises(BackendRejected):
            store.scan_records(kind, 10)

    @pytest.mark.parametrize("limit", [1, 7, 1_000])
    def test_a_scan_gives_every_record_of_its_kind_exactly_once(self, store: Store, limit: int) -> None:
        store.save_many(some_coupons(3))
        store.save_groups([*alone(records(60)), *alone(records(30, "block"))])
        store.save_groups([[record("00007", 2, "changed")]])
        found = walk_records(store, "campaign", limit)
        assert len(found) == 60
        assert by_key(found) == by_key(records(60)) | {"00007": record("00007", 2, "changed")}
        assert len(list(store.scan(10).coupons)) == 3

    def test_a_scan_gives_what_was_there_while_others_are_created(self, store: Store) -> None:
        there, late = records(100), [record(f"late {n}") for n in range(100)]
        store.save_groups(alone(there))
        with beside(lambda: [store.save_groups([[each]]) for each in late]):
            keys = [each.key for each in walk_records(store, "campaign", 9)]
        assert len(keys) == len(set(keys))
        assert by_key(there).keys() <= set(keys) <= by_key([*there, *late]).keys()

    @pytest.mark.parametrize("cursor", ["", "~", "~zz", "-1", "no cursor", "99999999999", "'; --", "%00" * 999])
    def test_a_records_cursor_that_no_scan_gave_is_rejected(self, store: Store, cursor: str) -> None:
        store.save_groups(alone(records(3)))
        with pytest.raises(BackendRejected):
            store.scan_records("campaign", 2, cursor)

    def test_making_the_tables_again_loses_no_record(self, store: Store) -> None:
        store.save_groups([[record()]])
        store.create()
        assert store.get_records("campaign", ["spring"]) == {"spring": record()}

    @pytest.mark.parametrize("first", ["save_many", "save_groups"])
    @pytest.mark.parametrize("second", ["save_many", "save_groups"])
    def test_a_rival_that_comes_in_at_any_moment_is_before_or_after(
        self, store: Store, first: str, second: str
    ) -> None:
        def laid_out() -> tuple[str, list[Callable[[], Any]]]:
            coupon = after("created")
            store.save_many([coupon])
            save = {"save_many": store.save_many, "save_groups": lambda group: store.save_groups([group])}
            return coupon.code, [
                partial(save[how], [changed(coupon, user=how_many)])
                for how, how_many in ((first, "first"), (second, "second"))
            ]

        for moment in moments(laid_out()[1][0]):
            code, rivals = laid_out()
            failed = [bool(each) for each in meet(moment, *rivals)]
            assert sorted(failed) == [False, True], f"at moment {moment}"
            assert store.get_many([code])[code].user_id == ("second" if failed[0] else "first")

    def test_of_many_threads_one_wins_each_round_of_a_group(self, store: Store) -> None:
        coupon, wins = after("created"), list[int]()
        store.save_groups([[coupon, record(body="nobody")]])

        def race(me: int, barrier: threading.Barrier) -> None:
            mine = coupon
            for turn in range(10):
                barrier.wait()
                mine = changed(mine, user=f"{me}")
                group: list[Coupon | Record] = [mine, record(revision=turn + 2, body=f"{me}")]
                if not store.save_groups([group[:: 1 if me % 2 else -1]]):
                    wins.append(turn)
                barrier.wait()
                mine = store.get_many([coupon.code])[coupon.code]

        together(8, race)
        assert sorted(wins) == list(range(10))
        assert (
            store.get_records("campaign", ["spring"])["spring"].body
            == store.get_many([coupon.code])[coupon.code].user_id
        )


def changed_as(member: Coupon | Record) -> Coupon:
    assert isinstance(member, Coupon)
    return member
