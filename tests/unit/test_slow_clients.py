import socket

import pytest
from structlog.testing import capture_logs

from coupon.web import slow_clients as slowness
from coupon.web.connection import Connection, Waits
from coupon.web.slow_clients import (
    BYTES_A_SECOND,
    CROWDED,
    GRACE_S,
    LOG_INTERVAL_S,
    SlowClients,
    begin,
    extend,
    first_to_go,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(slowness.time, "monotonic", clock)
    return clock


@pytest.fixture
def connect():
    pairs = []

    def make(waits=Waits.HEAD, peer="10.0.0.1"):
        pairs.append(socket.socketpair())
        connection = Connection(pairs[-1][0], (peer, 1), ("127.0.0.1", 80))
        begin(connection, waits, 15)
        return connection

    yield make
    for pair in pairs:
        for end in pair:
            end.close()


def test_one_line_in_five_seconds_counts_what_was_closed_and_what_is_held(clock, connect):
    slow = SlowClients(clock)
    held = [connect(Waits.BODY), connect(Waits.NEXT), connect(Waits.END)]
    with capture_logs() as lines:
        for waits, peer in ((Waits.HEAD, "10.0.0.1"), (Waits.BODY, "10.0.0.2"), (Waits.BODY, "10.0.0.2")):
            slow.closed(connect(waits, peer))
        slow.closed(connect(Waits.NEXT, "10.0.0.3"), CROWDED)
        slow.log(held)
        assert lines == []
        clock.now += LOG_INTERVAL_S
        slow.log(held)
        slow.closed(connect())
        clock.now += LOG_INTERVAL_S - 0.1
        slow.log(held)
    assert lines == [
        {
            "event": "slow connections",
            "log_level": "warning",
            "closed": {"half a head": 1, "half a body": 2, "crowded out": 1},
            "held": {"half a body": 1},
            "peer": "10.0.0.2",
            "of_peer": 2,
        }
    ]


@pytest.mark.parametrize(
    ("waits", "number", "is_told"), [(Waits.FIRST, 9, 0), (Waits.FIRST, 10, 1), (Waits.NEXT, 50, 0)]
)
def test_what_clients_do_every_day_is_not_told(clock, connect, waits, number, is_told):
    slow = SlowClients(clock)
    with capture_logs() as lines:
        for _ in range(2):
            for _ in range(number):
                slow.closed(connect(waits))
            clock.now += LOG_INTERVAL_S
            slow.log([])
    assert len(lines) == 2 * is_told


def test_a_body_has_the_time_that_it_earns(clock, connect):
    body = connect(Waits.BODY)
    assert body.deadline == clock.now + GRACE_S
    clock.now += 4
    body.received.data += bytes(2 * BYTES_A_SECOND)
    extend(body)
    assert body.deadline == clock.now + 1 + 2
    extend(body)
    assert body.deadline == clock.now + 1 + 2
    body.received.data += bytes(100 * BYTES_A_SECOND)
    extend(body)
    assert body.deadline == clock.now + GRACE_S


def test_a_head_earns_nothing(clock, connect):
    head = connect(Waits.HEAD)
    head.received.data += bytes(10 * BYTES_A_SECOND)
    extend(head)
    assert head.deadline == clock.now + slowness.HEAD_S


def test_half_sent_and_unread_connections_make_room_before_silent_and_idle_ones(clock, connect):
    idle, silent, late = connect(Waits.NEXT), connect(Waits.FIRST), connect(Waits.ANSWER)
    early = connect(Waits.HEAD)
    early.deadline -= 3
    assert sorted([idle, silent, late, early], key=first_to_go) == [early, late, silent, idle]
