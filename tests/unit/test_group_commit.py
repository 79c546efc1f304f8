import threading
import time
from contextlib import contextmanager

import pytest

from backends.testing.timing import until
from coupon.ports.group_commit import CROWD, PAUSE_S, GroupCommit, NotServed

SOON = 10.0


class Slow:
    """Serves when it is told to, and writes down what it served together."""

    def __init__(self):
        self.groups: list[list[int]] = []
        self.go, self.busy = threading.Semaphore(0), threading.Event()

    def __call__(self, works, deadline):
        self.busy.set()
        assert self.go.acquire(timeout=SOON)
        self.groups.append(list(works))


def call(group, work, within_s=SOON):
    thread = threading.Thread(target=group.do, args=(work, time.monotonic() + within_s))
    thread.start()
    return thread


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def group(slow):
    return GroupCommit(slow)


def test_who_comes_alone_is_served_at_once(group, slow):
    slow.go.release()
    group.do(1, time.monotonic() + SOON)
    assert slow.groups == [[1]]


def test_those_who_come_meanwhile_are_served_together_in_their_order(group, slow, group_clock):
    first = call(group, 0)
    assert slow.busy.wait(SOON)
    others = []
    for number in range(1, 6):
        others.append(call(group, number))
        until(lambda number=number: group_clock.waiting == number)
    slow.go.release(2)
    for thread in (first, *others):
        thread.join(SOON)
    assert slow.groups == [[0], [1, 2, 3, 4, 5]]


def test_after_a_crowd_the_next_two_wait_a_moment_for_others(group, slow, group_clock):
    first = call(group, 0)
    assert slow.busy.wait(SOON)
    others = [call(group, 1) for _ in range(CROWD)]
    until(lambda: group_clock.waiting == CROWD)
    slow.go.release(5)
    for thread in (first, *others):
        thread.join(SOON)
    assert group_clock.slept == []
    group.do(2, time.monotonic() + SOON)
    group.do(3, time.monotonic() + SOON)
    assert group_clock.slept == [PAUSE_S] * 2
    group.do(4, time.monotonic() + SOON)
    assert group_clock.slept == [PAUSE_S] * 2, "two single ones are no crowd"


def test_who_waited_in_vain_is_not_served_later(group, slow):
    first = call(group, 0)
    assert slow.busy.wait(SOON)
    with pytest.raises(TimeoutError):
        group.do(1, time.monotonic() + 0.01)
    slow.go.release()
    first.join(SOON)
    slow.go.release()
    group.do(2, time.monotonic() + SOON)
    assert slow.groups == [[0], [2]]


def test_who_waits_too_long_for_the_beginning_is_not_served(group, slow):
    first = call(group, 0)
    assert slow.busy.wait(SOON)
    with pytest.raises(NotServed):
        group.do(1, time.monotonic() + SOON, time.monotonic() + 0.01)
    slow.go.release()
    first.join(SOON)
    assert slow.groups == [[0]]


def test_whose_group_has_begun_waits_for_its_end(group, slow, group_clock):
    first = call(group, 0)
    assert slow.busy.wait(SOON)
    slow.busy.clear()
    ended = []

    def impatient():
        group.do(1, time.monotonic() + SOON, time.monotonic() + 0.3)
        ended.append(1)

    leader = call(group, 2)  # no thread of a group waits for its beginning but the one that came last
    until(lambda: group_clock.waiting == 1)
    second = threading.Thread(target=impatient)
    second.start()
    until(lambda: group_clock.waiting == 2)
    slow.go.release()
    assert slow.busy.wait(SOON)
    time.sleep(0.4)
    assert ended == []
    slow.go.release()
    for thread in (first, leader, second):
        thread.join(SOON)
    assert (ended, slow.groups) == ([1], [[0], [2, 1]])


def test_whose_group_takes_long_waits_for_its_end_in_the_context_of_patience(group, slow, group_clock):
    inside = threading.Event()

    @contextmanager
    def patience():
        inside.set()
        yield

    first = call(group, 0)
    assert slow.busy.wait(SOON)
    slow.busy.clear()
    now = time.monotonic()
    patient = threading.Thread(target=group.do, args=(1, now + SOON, now + 0.3, patience))
    patient.start()
    until(lambda: group_clock.waiting == 1)
    leader = call(group, 2)
    until(lambda: group_clock.waiting == 2)
    slow.go.release()
    assert slow.busy.wait(SOON)
    assert inside.wait(SOON)
    slow.go.release()
    for thread in (first, patient, leader):
        thread.join(SOON)
    assert slow.groups == [[0], [1, 2]]


def test_an_error_of_the_one_who_serves_stops_nobody_else(slow, group_clock):
    def serve(works, deadline):
        slow(works, deadline)
        if works == [0]:
            raise RuntimeError("broken")

    group = GroupCommit(serve)
    failed = []

    def broken():
        with pytest.raises(RuntimeError):
            group.do(0, time.monotonic() + SOON)
        failed.append(True)

    first = threading.Thread(target=broken)
    first.start()
    assert slow.busy.wait(SOON)
    second = call(group, 1)
    until(lambda: group_clock.waiting == 1)
    slow.go.release(2)
    first.join(SOON)
    second.join(SOON)
    assert (failed, slow.groups) == ([True], [[0], [1]])


def test_many_threads_are_served_once_each():
    served = []
    group = GroupCommit(lambda works, deadline: served.extend(works))

    def client(number):
        for each in range(200):
            group.do((number, each), time.monotonic() + SOON)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(served) == [(number, each) for number in range(8) for each in range(200)]
