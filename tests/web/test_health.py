import json
import threading
from importlib.metadata import version

import pytest

from backends.testing.timing import takes_less_than
from coupon.domain.clock import now_ms
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendUnavailable
from coupon.domain.topics import all_topics
from coupon.ports.queue import Message
from coupon.runtime.heartbeat import INTERVAL_MS
from coupon.runtime.wiring import open_backends
from coupon.runtime.worker_registry import living
from coupon.web import create_app
from coupon.web.single_flight import FRESH_MS
from coupon.worker.worker import Worker, join
from tests.web.conftest import Api
from tests.web.problems import problem, refused


def test_alive_is_alive_whatever_is_away(api, backends):
    backends.close()
    answer = api.get("/livez")
    assert (answer.status_code, answer.json) == (200, {"status": "alive"})


def test_ready_tells_of_each_dependency_and_its_milliseconds(api, worker):
    worker.run_once(poll_s=0.01)
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json["status"]) == (200, "ready")
    assert answer.json["version"] == version("coupon")
    assert {name: dependency["status"] for name, dependency in answer.json["dependencies"].items()} == dict.fromkeys(
        ("cache", "queue", "store", "search", "worker"), "up"
    )
    assert all(dependency["ms"] >= 0 for dependency in answer.json["dependencies"].values())


@pytest.mark.parametrize("role", ["cache", "search"])
def test_without_cache_or_search_commands_can_be_taken(api, backends, role):
    getattr(backends, role).close()
    answer = api.get("/readyz")
    assert answer.status_code == 200
    assert answer.json["dependencies"][role]["status"] == "down"


@pytest.mark.parametrize("role", ["queue", "store"])
def test_without_queue_or_store_they_can_not(api, backends, role, timer):
    api.get("/readyz")
    timer.ahead_ms += FRESH_MS
    getattr(backends, role).close()
    answer = api.get("/readyz")
    assert refused(answer) == (503, "UNAVAILABLE")
    body = problem(answer)
    assert body["dependencies"][role]["status"] == "down"
    assert body["version"] == version("coupon")
    assert role in body["detail"]


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
        dependencies = problem(api.get("/readyz"))["dependencies"]
        assert [dependencies[role]["status"] for role in ("cache", "search", "queue", "store")] == ["down"] * 3 + ["up"]

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
    dependencies = api.get("/readyz").json["dependencies"]
    assert (dependencies["search"]["status"], dependencies["store"]["status"]) == ("down", "up")


def test_what_went_wrong_is_not_told_to_strangers(api, backends, monkeypatch):
    def away():
        raise BackendUnavailable("10.1.2.3:9200 refused")

    monkeypatch.setattr(backends.search, "ping", away)
    assert "10.1.2.3" not in api.get("/readyz").text


def problems_of(api, role):
    """Without a new look, when there was one just now."""
    answer = api.get("/readyz")
    body = answer.json if answer.status_code == 200 else problem(answer)
    return body["dependencies"][role]["problems"]


def test_topics_without_a_living_worker_are_named(api, backends, settings, worker, consumer, timer):
    worker.run_once(poll_s=0.01)
    assert problems_of(api, "worker") == []
    timer.ahead_ms += FRESH_MS
    consumer.close()
    backends.cache.delete_many(living(backends.cache, CodeDeriver(settings.secret)))
    Worker(backends, settings, join(backends, settings, ["commands"]), ["commands"]).run_once(poll_s=0.01)
    answer = api.get("/readyz")
    assert answer.json["dependencies"]["worker"]["status"] == "down"
    assert problems_of(api, "worker") == [
        f"no living worker reads the topic {topic!r}" for topic in ("creation", "reindex", "invalidate")
    ]


def test_a_worker_that_never_could_work_is_none(api, backends, worker, timer, monkeypatch):
    def away():
        raise BackendUnavailable("the table is missing")

    with monkeypatch.context() as patch:
        patch.setattr(backends.store, "ping", away)
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                worker.run_once(poll_s=0.01)
    assert api.get("/readyz").json["dependencies"]["worker"]["status"] == "down"
    timer.ahead_ms += FRESH_MS
    backends.cache.close()
    assert api.get("/readyz").json["dependencies"]["worker"]["status"] == "unknown"


def test_a_worker_that_ends_at_each_start_is_none(api, backends, worker, consumer, monkeypatch):
    def bug(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(consumer, "poll", bug)
    with pytest.raises(ZeroDivisionError):
        worker.run_once()
    assert api.get("/readyz").json["dependencies"]["worker"]["status"] == "down"


@pytest.mark.logs_error("dead letter", "partition left alone")
def test_a_partition_that_is_left_alone_is_named_without_its_reason(api, backends, settings, timer):
    worker = Worker(backends, settings, join(backends, settings), timer=timer)
    backends.queue.publish([Message("commands", "k", b"{secret")] * settings.dead_letters_in_a_row)
    worker.run_once(poll_s=0.01)
    timer.ahead_ms += INTERVAL_MS
    worker.run_once(poll_s=0.01)
    (sentence,) = problems_of(api, "worker")
    assert sentence.startswith("commands/")
    assert sentence.endswith(" is left alone by its worker")


def test_a_store_that_cannot_be_written_is_told_and_commands_can_be_taken(api, backends, timer, monkeypatch):
    def full(coupons):
        raise BackendUnavailable("/secret/store.db: database or disk is full")

    assert problems_of(api, "store") == []
    timer.ahead_ms += FRESH_MS
    monkeypatch.setattr(backends.store, "save_many", full)
    answer = api.get("/readyz")
    assert answer.status_code == 200
    assert problems_of(api, "store") == ["the store cannot be written"]


def test_the_question_whether_the_store_can_be_written_writes_nothing(api, backends):
    api.get("/readyz")
    assert backends.store.scan(10).coupons == []


def without_topic(settings, topic):
    """A service whose queue lacks a topic."""
    backends = open_backends(settings)
    backends.queue.create(set(all_topics(settings.topics)) - {topic})
    return Api(create_app(settings, backends).test_client())


def test_without_the_topics_of_commands_it_is_not_ready_and_says_so(settings):
    api = without_topic(settings, "commands")
    answer = api.get("/readyz")
    assert refused(answer) == (503, "UNAVAILABLE")
    assert problem(answer)["dependencies"]["queue"]["problems"] == ["the topic 'commands' is missing: run coupon init"]


def test_a_missing_outbox_is_told_and_commands_can_be_taken(settings):
    api = without_topic(settings, "reindex")
    assert api.get("/readyz").status_code == 200
    assert problems_of(api, "queue") == ["the topic 'reindex' is missing: run coupon init"]


def test_the_age_of_the_oldest_waiting_command_is_told(api, backends):
    old = json.dumps({"accepted_at": now_ms() - 84_000}).encode()
    backends.queue.publish([Message("commands", "k", old), Message("commands", "k", b"{")])
    assert "the oldest waiting command is 84 s old" in problems_of(api, "worker")


def test_commands_of_another_layout_that_wait_are_told(api, backends):
    backends.queue.create(["issue"])
    backends.queue.publish([Message("issue", "k", b"{}")] * 3)
    (sentence,) = problems_of(api, "queue")
    assert sentence.startswith(
        "3 messages wait in the topic 'issue', which workers with COUPON_TOPICS=per-command drain"
    )
