import threading

import pytest

from backends.testing.timing import takes_less_than
from coupon.ports.backend import BackendUnavailable
from coupon.web.sharing import FRESH_MS
from tests.web.problems import problem, refused


def test_alive_is_alive_whatever_is_away(api, backends):
    backends.close()
    answer = api.get("/livez")
    assert (answer.status_code, answer.json) == (200, {"status": "alive"})


def test_ready_tells_of_each_dependency_and_its_milliseconds(api, worker):
    worker.run_once(poll_s=0.01)
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json["status"]) == (200, "ready")
    assert {name: told["status"] for name, told in answer.json["dependencies"].items()} == dict.fromkeys(
        ("cache", "queue", "store", "search", "worker"), "up"
    )
    assert all(told["ms"] >= 0 for told in answer.json["dependencies"].values())


@pytest.mark.parametrize("role", ["cache", "search"])
def test_without_cache_or_search_commands_can_be_taken(api, backends, role):
    getattr(backends, role).close()
    answer = api.get("/readyz")
    assert answer.status_code == 200
    assert answer.json["dependencies"][role]["status"] == "down"


@pytest.mark.parametrize("role", ["queue", "store"])
def test_without_queue_or_store_they_can_not(api, backends, role):
    getattr(backends, role).close()
    answer = api.get("/readyz")
    assert refused(answer) == (503, "UNAVAILABLE")
    told = problem(answer)
    assert told["dependencies"][role]["status"] == "down"
    assert role in told["detail"]


def test_no_worker_is_told_but_commands_can_be_taken(api):
    answer = api.get("/readyz")
    assert answer.status_code == 200
    assert answer.json["dependencies"]["worker"]["status"] == "down"


def test_without_a_cache_a_worker_of_this_machine_is_still_seen(api, backends, worker, timer):
    backends.cache.close()
    assert api.get("/readyz").json["dependencies"]["worker"]["status"] == "unknown"
    worker.run_once(poll_s=0.01)
    timer.ahead_ms += FRESH_MS
    assert api.get("/readyz").json["dependencies"]["worker"]["status"] == "up"


def test_dependencies_that_hang_are_down_after_two_seconds_all_together(api, backends, monkeypatch, timer):
    release = threading.Event()

    def hang():
        release.wait(10)

    def are_three_down():
        told = problem(api.get("/readyz"))["dependencies"]
        assert [told[role]["status"] for role in ("cache", "search", "queue", "store")] == ["down"] * 3 + ["up"]

    for backend in (backends.cache, backends.search, backends.queue):
        monkeypatch.setattr(backend, "ping", hang)
    try:
        for _ in range(2):  # the second time, threads are still hanging
            takes_less_than(3, are_three_down)
            timer.ahead_ms += FRESH_MS
    finally:
        release.set()


def test_a_check_with_a_bug_is_down_and_takes_no_other_with_it(api, backends, monkeypatch):
    def buggy():
        raise ZeroDivisionError

    monkeypatch.setattr(backends.search, "ping", buggy)
    told = api.get("/readyz").json["dependencies"]
    assert (told["search"]["status"], told["store"]["status"]) == ("down", "up")


def test_what_went_wrong_is_not_told_to_strangers(api, backends, monkeypatch):
    def away():
        raise BackendUnavailable("10.1.2.3:9200 refused")

    monkeypatch.setattr(backends.search, "ping", away)
    assert "10.1.2.3" not in api.get("/readyz").text
