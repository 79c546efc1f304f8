"""Which refusals of a process are sent at once."""

from types import SimpleNamespace

from coupon.web.connection import Outgoing
from coupon.web.refusals import AT_ONCE_A_SECOND, RefusalRate, hold_back


def test_so_many_refusals_of_a_second_are_sent_at_once_and_the_next_second_begins_anew():
    clock = SimpleNamespace(ms=5_000)
    rate = RefusalRate(lambda: clock.ms)
    assert [rate.is_too_high() for _ in range(AT_ONCE_A_SECOND + 2)] == [False] * AT_ONCE_A_SECOND + [True] * 2
    clock.ms += 1_000
    assert not rate.is_too_high()


def test_only_our_gunicorn_worker_holds_a_response_back():
    outgoing = Outgoing(None)
    hold_back({"gunicorn.socket": outgoing})
    assert outgoing.is_held
    hold_back({})
    hold_back({"gunicorn.socket": object()})
