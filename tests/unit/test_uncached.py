"""Without the cache nothing is decided on what may be past, and nobody waits behind too many others."""

import threading

import pytest

from coupon.acceptance.uncached import TOGETHER_MAX, WAIT_MS, UncachedCommands
from coupon.domain.errors import BackendUnavailable, CouponBusy
from coupon.domain.model import Kind
from tests.coupons import a_command, a_coupon

COUPON = a_coupon()


class Fences:
    """A fence is a number, and passed when it is not beyond ``committed``."""

    def __init__(self) -> None:
        self.end = self.committed = 0

    def of(self, code):
        return self.end

    def passed(self, fence):
        return fence <= self.committed


class Shelf:
    """A store of one coupon."""

    def get_many(self, codes):
        return {COUPON.code: COUPON}


class Counter:
    """What was decided and published; time goes by when somebody sleeps."""

    def __init__(self) -> None:
        self.fences, self.ms, self.decided, self.published = Fences(), 0, 0, []
        self.unreserved = UncachedCommands(Shelf(), self.fences, self.publish, self.sleep, lambda: self.ms)

    def sleep(self, seconds):
        self.ms += max(1, round(seconds * 1000))

    def publish(self, command):
        self.published.append(command)
        self.fences.end += 1

    def decide(self, coupon):
        self.decided += 1
        return a_command(Kind.ISSUE, "i", reserved=False)


@pytest.fixture
def counter():
    return Counter()


def test_while_something_waits_nothing_is_decided(counter):
    counter.fences.end = 1
    with pytest.raises(CouponBusy):
        counter.unreserved.change(COUPON.code, counter.decide)
    assert (counter.decided, counter.published) == (0, [])
    assert WAIT_MS <= counter.ms < 2 * WAIT_MS


def test_what_the_workers_do_not_apply_in_time_is_not_told_to_be_accepted(counter):
    with pytest.raises(BackendUnavailable):
        counter.unreserved.change(COUPON.code, counter.decide)
    assert len(counter.published) == 1


def test_of_those_who_would_wait_beyond_a_few_each_is_told_to_try_again_at_once(counter):
    inside, leave = threading.Barrier(TOGETHER_MAX + 1), threading.Event()

    def held(coupon):
        inside.wait(10)
        leave.wait(10)
        raise CouponBusy(COUPON.code)

    def ask():
        with pytest.raises(CouponBusy):
            counter.unreserved.change(COUPON.code, held)

    waiting = [threading.Thread(target=ask) for _ in range(TOGETHER_MAX)]
    for thread in waiting:
        thread.start()
    inside.wait(10)
    with pytest.raises(CouponBusy):
        counter.unreserved.change(COUPON.code, counter.decide)
    assert counter.decided == 0
    leave.set()
    for thread in waiting:
        thread.join()
    with pytest.raises(BackendUnavailable):
        counter.unreserved.change(COUPON.code, counter.decide)
    assert counter.decided == 1
