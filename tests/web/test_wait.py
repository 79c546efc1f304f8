import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from backends.testing.timing import takes_less_than
from coupon.web.thread_pool import WAITING_MAX_ELSEWHERE
from coupon.worker.worker import Worker
from tests.web.problems import problem, refused


@contextmanager
def running(worker: Worker) -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            worker.run_once(poll_s=0.01)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_who_waits_is_told_that_the_command_was_applied(api, code, worker):
    with running(worker):
        answer = api.issue(code, Prefer="wait=10")
    assert (answer.status_code, answer.json["status"]) == (200, "applied")
    assert answer.headers["Preference-Applied"] == "wait=10"
    assert answer.headers["Location"].startswith("/v1/operations/")


def test_who_waits_needs_no_worker_where_the_command_is_next(api, code, drain):
    answers = [api.issue(code, "ann", Prefer="wait=10"), api.use(code, Prefer="wait=10")]
    assert [(answer.status_code, answer.json["status"]) for answer in answers] == [(200, "applied")] * 2
    assert api.get(f"/v1/coupons/{code}").json["used"]
    assert api.get("/v1/users/ann/coupons").json["items"] == []
    drain()
    assert [item["used"] for item in api.get("/v1/users/ann/coupons").json["items"]] == [True]


def test_who_waits_for_a_creation_finds_the_coupons_there(api, worker):
    with running(worker):
        answer = api.create(amount=3, Prefer="wait=10")
    assert (answer.status_code, answer.json["status"], answer.json["created"]) == (200, "applied", 3)
    assert api.get(f"/v1/coupons/{answer.json['couponCodes'][0]}").status_code == 200


def test_who_waits_is_told_that_a_rival_won(api, code, worker, backends):
    api.issue(code, "ann")
    backends.cache.delete_many([f"coupon:{code.replace('-', '')}"])
    with running(worker):
        answer = api.issue(code, "bob", Prefer="wait=10")
    # Which of the two messages came first is certain: one coupon's commands keep their order.
    assert refused(answer) in {(409, "RIVAL_WON"), (409, "ALREADY_ISSUED")}
    if problem(answer)["code"] == "RIVAL_WON":
        assert answer.headers["Preference-Applied"] == "wait=10"
        assert api.get(answer.headers["Location"]).json["status"] == "rejected"


def test_who_waits_in_vain_is_told_after_that_time_that_it_was_accepted(api, code):
    api.issue(code, "ann")

    def wait():  # for the worker: what it builds on is not in the store
        answer = api.use(code, **{"Idempotency-Key": "k", "Prefer": "wait=1"})
        assert (answer.status_code, answer.json["status"]) == (202, "accepted")

    assert takes_less_than(2, wait) >= 1


def test_a_store_that_goes_away_while_one_waits_makes_nothing_unaccepted(api, code, backends, monkeypatch):
    original = backends.store.save_many

    def away(coupons):
        backends.store.close()
        return original(coupons)

    monkeypatch.setattr(backends.store, "save_many", away)
    assert api.issue(code, Prefer="wait=10").status_code == 202


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=0", "wait=0"),
        ("wait=31", "wait=30"),
        ("wait=999999999", "wait=30"),
        ("WAIT = 5", "wait=5"),
        ('wait="5"', "wait=5"),
        ("respond-async, wait=5", "wait=5"),
        ("wait=5;x=y, wait=7", "wait=5"),
        ("wait", None),
        ("wait=", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=soon", None),
        ("return=minimal", None),
        (",;=,", None),
    ],
)
def test_a_preference_is_read_as_the_rfc_says(api, code, drain, prefer, applied):
    api.issue(code, **{"Idempotency-Key": "k1"})
    drain()  # so that nobody has to wait here
    answer = api.issue(code, **{"Idempotency-Key": "k1", "Prefer": prefer})
    assert answer.headers.get("Preference-Applied") == applied
    assert answer.status_code == (200 if applied else 202)


def test_those_who_wait_leave_threads_for_commands(api, code):
    """With the worker away, more callers than may wait at a time: the rest are answered at once."""
    api.issue(code, "ann")

    def use(number):
        began = time.monotonic()
        answer = api.use(code, **{"Idempotency-Key": "k", "Prefer": "wait=2"})
        assert (answer.status_code, answer.json["status"]) == (202, "accepted")
        return time.monotonic() - began

    with ThreadPoolExecutor(WAITING_MAX_ELSEWHERE + 3) as pool:
        took = sorted(pool.map(use, range(WAITING_MAX_ELSEWHERE + 3)))
    assert took[2] < 1.5
    assert took[3] > 1.5


@pytest.mark.parametrize(("amount", "longest"), [(1_000, 0.1), (1_001, 1.0)])
def test_who_waits_for_many_coupons_asks_the_store_less_often(api, monkeypatch, amount, longest):
    now, pauses = [0.0], []

    def sleep(seconds):
        pauses.append(seconds)
        now[0] += seconds

    its_time = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr("coupon.web.commands.time", its_time)
    assert api.create(amount=amount, Prefer="wait=10").json["status"] == "accepted"
    assert max(pauses) == longest
