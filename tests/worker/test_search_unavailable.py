"""Search is unavailable, or refuses documents: commands are applied all the same."""

import pytest
from structlog.testing import capture_logs

from coupon.applying import dead_letters
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.domain.model import Kind
from coupon.domain.topics import REINDEX
from tests.worker.faults import Faulty, away


def test_search_away_does_not_stop_money_and_is_caught_up(world):
    search = Faulty(world.backends.search)
    shaken = world.but(search=search)
    (code,) = shaken.coupons()
    search.down = True
    shaken.change(Kind.ISSUE, code, "ann")
    for _ in range(3):
        shaken.drain()
        shaken.now += 20_000
    assert shaken.stored(code).user_id == "ann"
    assert world.backends.queue.lag(["commands"], "worker") == 0
    assert world.backends.queue.lag(["reindex"], "worker") == 1
    search.down = False
    shaken.now += 20_000
    shaken.drain()
    assert shaken.documents("ann") == [code]
    assert shaken.lag() == 0


def test_search_that_is_away_is_left_alone_until_it_answers_a_ping(world):
    search = Faulty(world.backends.search)
    shaken = world.but(search=search)
    codes = shaken.coupons(5)
    search.down = True
    search.calls.clear()
    for code in codes:
        shaken.change(Kind.ISSUE, code, "ann")
        shaken.drain()
    assert search.calls == ["index_many"]


def test_with_search_and_queue_away_nothing_is_committed(world):
    search, queue = Faulty(world.backends.search), Faulty(world.backends.queue)
    (code,) = world.coupons()
    world.leave()
    shaken = world.but(search=search, queue=queue)
    shaken.change(Kind.ISSUE, code, "ann")
    search.down = True
    assert shaken.worker.run_once(poll_s=0) == 1
    queue.before["publish"] = [away()]
    with pytest.raises(BackendUnavailable):
        shaken.worker.run_once(poll_s=0)
    assert world.backends.queue.lag(["commands"], "worker") == 1
    shaken.worker.rewind()
    shaken.drain()
    assert world.backends.queue.lag(["commands", REINDEX], "worker") == 1  # the code, durably


@pytest.mark.logs_error("document refused")
@pytest.mark.parametrize("culprit", ["index_many", "ping"])
def test_search_that_refuses_us_does_not_stop_money_nor_make_dead_letters(world, culprit):
    search = Faulty(world.backends.search)
    shaken = world.but(search=search)
    codes = shaken.coupons(30)
    search.before["index_many"] = [away()] if culprit == "ping" else [BackendRejected("401")] * 1000
    search.before["ping"] = [BackendRejected("401")] * 1000
    for code in codes:
        shaken.change(Kind.ISSUE, code, "ann")
        shaken.drain()
        shaken.now += 20_000
    assert all(shaken.stored(code).issued for code in codes)
    assert list(dead_letters.browse(world.backends.queue)) == []


@pytest.mark.logs_error("document refused")
@pytest.mark.parametrize("error", [BackendRejected("mapping"), OverflowError("int too big to convert")])
def test_one_document_that_search_refuses_or_stumbles_over_costs_no_other_and_no_command(world, monkeypatch, error):
    codes = world.coupons(9)
    index_many = world.backends.search.index_many

    def all_but_one(coupons):
        if any(coupon.code == codes[3] for coupon in coupons):
            raise error
        index_many(coupons)

    monkeypatch.setattr(world.backends.search, "index_many", all_but_one)
    for code in codes:
        world.change(Kind.ISSUE, code, "ann")
    with capture_logs() as lines:
        world.drain()
    assert [world.stored(code).issued for code in codes] == [True] * 9
    assert sorted(world.documents("ann")) == sorted({*codes} - {codes[3]})
    assert [line["code"] for line in lines if line["event"] == "document refused"] == [codes[3]]
    assert (list(dead_letters.browse(world.backends.queue)), world.lag()) == ([], 0)
