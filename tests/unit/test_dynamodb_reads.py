"""Reads that wait together, without a server: whose trouble is whose."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from backends.store.dynamodb_reads import Answer, CoalescedReads
from backends.testing.coupons import some_coupons
from coupon.domain.errors import BackendUnavailable
from tests.e2e.deployment import eventually

COUPONS = {coupon.code: coupon for coupon in some_coupons(4)}
BROKEN, *SOUND = COUPONS
SOON_S = 10


class Store:
    """Holds the first request until the others wait; cannot decode one coupon."""

    def __init__(self):
        self.together, self.alone = [], []
        self.go = threading.Event()

    def read(self, codes):
        if BROKEN in codes:
            raise ValueError("unreadable")
        return [COUPONS[code] for code in codes]

    def ask(self, codes, longest_s):
        self.together.append(codes)
        assert self.go.wait(10)
        return Answer(self.read(codes), set())

    def read_alone(self, codes, longest_s):
        self.alone.append(codes)
        return self.read(codes)


@pytest.fixture
def store():
    return Store()


def all_at_once(store, shared, codes, group_clock):
    """The first one asks; the others gather meanwhile."""

    def read(code):
        try:
            return shared.read([code])
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(len(codes)) as pool:
        first = pool.submit(read, codes[0])
        eventually(lambda: store.together, SOON_S)
        others = [pool.submit(read, code) for code in codes[1:]]
        eventually(lambda: group_clock.waiting == len(others), SOON_S)
        store.go.set()
        return [future.result(10) for future in (first, *others)]


def test_those_who_wait_are_asked_for_together(store, group_clock):
    shared = CoalescedReads(store.ask, store.read_alone, timeout_s=60)
    assert all_at_once(store, shared, SOUND, group_clock) == [[COUPONS[code]] for code in SOUND]
    assert [len(codes) for codes in store.together] == [1, len(SOUND) - 1]
    assert store.alone == []


def test_what_cannot_be_read_is_told_to_whom_it_belongs(store, group_clock):
    shared = CoalescedReads(store.ask, store.read_alone, timeout_s=60)
    codes = [*SOUND, BROKEN]
    assert all_at_once(store, shared, codes, group_clock) == [*([COUPONS[code]] for code in SOUND), "unreadable"]


def test_whoever_waits_for_a_request_that_got_lost_asks_alone_after_a_while(store):
    shared = CoalescedReads(store.ask, store.read_alone, timeout_s=0.4)
    thread = threading.Thread(target=shared.read, args=([SOUND[0]],))
    thread.start()
    eventually(lambda: store.together, SOON_S)
    assert shared.read([SOUND[1]]) == [COUPONS[SOUND[1]]]
    assert store.alone == [[SOUND[1]]]
    store.go.set()
    thread.join(10)


def test_the_time_for_all_of_it_is_the_caller_s():
    left = []

    def ask(codes, longest_s):
        left.append(longest_s)
        raise BackendUnavailable("away")

    def alone(codes, longest_s):
        left.append(longest_s)
        return []

    CoalescedReads(ask, alone, timeout_s=8).read([SOUND[0]])
    assert 1.5 < left[0] <= 2
    assert 7.5 < left[1] <= 8
