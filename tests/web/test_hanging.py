"""A backend that hangs takes some of a process's threads, and never all.

There are sixteen threads as under gunicorn, forty callers who want what hangs, and then somebody who wants something
else.
"""

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from types import SimpleNamespace

import pytest

from backends.testing.timing import takes_less_than
from coupon.runtime import server_settings
from coupon.web.bulkhead import SHARE_FOR_COMMANDS, SHARE_FOR_SEARCH
from coupon.web.single_flight import FRESH_MS
from tests.web.problems import refused

CALLERS = 40
THREADS = server_settings.load({}).threads
THREADS_FOR_SEARCH, THREADS_FOR_COMMANDS = int(THREADS * SHARE_FOR_SEARCH), int(THREADS * SHARE_FOR_COMMANDS)
LIST = "/v1/users/ann/coupons"


class Hang:
    """In place of a method: waits until it is released, and counts who does."""

    def __init__(self):
        self.release, self.entered = threading.Event(), threading.Semaphore(0)
        self.asked = 0

    def __call__(self, *_arguments, **_named):
        self.asked += 1
        self.entered.release()
        assert self.release.wait(60)
        return []


@pytest.fixture
def hang():
    hang = Hang()
    yield hang
    hang.release.set()


@pytest.fixture
def threads(hang):
    with ThreadPoolExecutor(THREADS) as pool:
        yield pool
        hang.release.set()


def crowd(threads, hang, ask, inside):
    """Many callers who ask the same; as many as may be are inside."""
    asked = [threads.submit(ask) for _ in range(CALLERS)]
    for _ in range(inside):
        assert hang.entered.acquire(timeout=30)
    return asked


def answered(threads, *questions):
    """Each is answered in its turn, in short."""
    for ask in questions:
        answers = []
        takes_less_than(3, lambda ask=ask, answers=answers: answers.append(threads.submit(ask).result(30)))
        assert answers[-1].status_code in (200, 202)


def rest_is_refused(asked, inside):
    """Those who did not get inside were told to try again, without waiting for the others."""
    done = islice(as_completed(asked, timeout=30), CALLERS - inside)
    assert {refused(call.result()) for call in done} == {(503, "UNAVAILABLE")}


def test_search_that_hangs_holds_up_no_command_and_no_probe(api, code, threads, hang, backends, monkeypatch):
    logged = []
    monkeypatch.setattr("coupon.web.problems.log", SimpleNamespace(warning=lambda event, **_: logged.append(event)))
    monkeypatch.setattr(backends.search, "find", hang)
    asked = crowd(threads, hang, lambda: api.get(LIST), THREADS_FOR_SEARCH)
    answered(
        threads,
        lambda: api.get("/livez"),
        lambda: api.issue(code),
        api.create,
        lambda: api.get(f"/v1/coupons/{code}"),
        lambda: api.get("/readyz"),
    )
    rest_is_refused(asked, THREADS_FOR_SEARCH)
    assert hang.asked == THREADS_FOR_SEARCH
    assert logged == []  # thousands a second, each a line


def test_a_store_that_hangs_holds_up_nothing_that_does_without(api, code, threads, hang, backends, monkeypatch):
    api.issue(code)  # the cache knows it now
    monkeypatch.setattr(backends.store, "get_many", hang)
    asked = crowd(threads, hang, lambda: api.get(f"/v1/coupons/{code}"), THREADS_FOR_COMMANDS)
    answered(threads, lambda: api.get("/livez"), lambda: api.use(code), lambda: api.get(LIST), api.create)
    rest_is_refused(asked, THREADS_FOR_COMMANDS)


def test_a_queue_that_hangs_holds_up_no_question_and_no_probe(api, code, threads, hang, backends, monkeypatch):
    monkeypatch.setattr(backends.queue, "publish", hang)
    asked = crowd(threads, hang, api.create, THREADS_FOR_COMMANDS)
    answered(threads, lambda: api.get("/livez"), lambda: api.get(LIST), lambda: api.get(f"/v1/coupons/{code}"))
    rest_is_refused(asked, THREADS_FOR_COMMANDS)


def test_forty_who_ask_whether_a_process_is_ready_hold_up_nobody(api, threads, hang, backends, monkeypatch):
    monkeypatch.setattr(backends.search, "ping", hang)
    asked = crowd(threads, hang, lambda: api.get("/readyz"), 1)
    answered(threads, lambda: api.get("/livez"), api.create)
    assert [call.result(30).status_code for call in asked].count(200) >= 1
    assert hang.asked == 1


def test_forty_who_scrape_hold_up_nobody(api, threads, hang, backends, monkeypatch):
    monkeypatch.setattr("coupon.runtime.questions.PATIENCE_MS", 60_000)
    monkeypatch.setattr(backends.search, "count", lambda: hang() or (0, 0, 0))
    asked = crowd(threads, hang, lambda: api.get("/metrics"), 1)
    answered(threads, lambda: api.get("/livez"), api.create)
    others = [call.result() for call in islice(as_completed(asked, timeout=30), CALLERS - 1)]
    assert {answer.status_code for answer in others} == {200}
    assert "coupon_commands_total" in others[0].text
    assert hang.asked == 1


def test_those_who_ask_soon_after_are_told_the_same_without_asking(api, backends, timer):
    asked = []
    backends.search.ping = lambda: asked.append(1)
    for _ in range(5):
        assert api.get("/readyz").status_code == 200
    assert len(asked) == 1
    timer.ahead_ms += FRESH_MS
    assert api.get("/readyz").status_code == 200
    assert len(asked) == 2


def test_while_one_asks_the_others_are_told_what_was_found_last(api, threads, hang, backends, monkeypatch, timer):
    assert api.get("/readyz").json["dependencies"]["search"]["status"] == "up"
    timer.ahead_ms += FRESH_MS
    monkeypatch.setattr(backends.search, "ping", hang)
    first = threads.submit(lambda: api.get("/readyz"))
    assert hang.entered.acquire(timeout=30)
    takes_less_than(1, lambda: told_up(api.get("/readyz")))
    assert first.result(30).json["dependencies"]["search"]["status"] == "down"
    assert api.get("/readyz").json["dependencies"]["search"]["status"] == "down"


def told_up(answer):
    assert answer.json["dependencies"]["search"]["status"] == "up"


def test_who_finds_no_answer_yet_waits_for_it_while_it_may_come_soon(api, threads, hang, backends, monkeypatch):
    monkeypatch.setattr(backends.search, "ping", hang)
    asked = [threads.submit(lambda: api.get("/readyz")) for _ in range(3)]
    assert hang.entered.acquire(timeout=30)
    hang.release.set()
    assert [call.result(30).status_code for call in asked] == [200] * 3
    assert hang.asked == 1


def test_but_not_for_longer(api, threads, hang, backends, monkeypatch):
    monkeypatch.setattr(backends.queue, "ping", hang)
    first = threads.submit(lambda: api.get("/readyz"))
    assert hang.entered.acquire(timeout=30)
    second = api.get("/readyz")
    assert not first.done()
    assert refused(second) == refused(first.result(30)) == (503, "UNAVAILABLE")
