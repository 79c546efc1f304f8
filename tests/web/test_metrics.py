"""What ``/metrics`` tells of commands, backends, and what it has to ask for."""

import re
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backends.testing.timing import takes_less_than
from coupon.domain.errors import BackendUnavailable
from coupon.domain.topics import DEAD_LETTERS
from coupon.ports.queue import Message
from coupon.runtime import instruments, metrics, questions
from coupon.web import create_app
from coupon.web.single_flight import FRESH_MS
from tests.web.conftest import Api


class Metrics:
    """The samples of a scrape. What is counted is the difference to those at the beginning of the test."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._before = self.scrape()

    def scrape(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        answer = self._api.get("/metrics")
        assert answer.status_code == 200
        assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def counted(self, name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return self.scrape().get(key, 0) - self._before.get(key, 0)

    def now(self, name: str, **labels: str) -> float | None:
        return self.scrape().get((name, frozenset(labels.items())))


@pytest.fixture
def told(api, timer):
    told = Metrics(api)
    timer.ahead_ms += questions.COUNT_KEPT_MS
    return told


def test_commands_are_counted_by_what_became_of_them(api, code, drain, told):
    api.issue(code)
    api.issue(code, "bob")
    api.use("A" * 19)
    assert api.issue("no code").status_code == 422  # no command yet
    drain()
    assert told.counted("coupon_commands_total", kind="issue", outcome="accepted") == 1
    assert told.counted("coupon_commands_total", kind="issue", outcome="applied") == 1
    assert told.counted("coupon_commands_total", kind="issue", outcome="refused") == 1
    assert told.counted("coupon_commands_total", kind="use", outcome="refused") == 1
    assert told.counted("coupon_refusals_total", kind="issue", reason="ALREADY_ISSUED") == 1
    assert told.counted("coupon_refusals_total", kind="use", reason="NOT_FOUND") == 1
    assert told.counted("coupon_accepted_seconds_count", kind="issue") == 1
    assert told.counted("coupon_applied_seconds_count", kind="issue") == 1


def test_a_command_that_is_awaited_is_applied_once_and_a_duplicate_to_the_worker(api, code, drain, told, clock):
    assert api.issue(code, Prefer="wait=5").status_code == 200
    drain()
    assert told.counted("coupon_commands_total", kind="issue", outcome="applied") == 1
    assert told.counted("coupon_commands_total", kind="issue", outcome="duplicate") == 1
    assert told.counted("coupon_applied_seconds_count", kind="issue") == 1


def test_the_time_until_a_command_is_applied_counts_from_its_acceptance(api, code, drain, told, clock):
    api.issue(code)
    clock.ms += 7_000
    drain()
    assert told.counted("coupon_applied_seconds_sum", kind="issue") == pytest.approx(7)


def test_a_rejected_command_has_its_reason(api, code, drain, told, backends):
    api.issue(code, "ann")
    backends.cache.lose_all()
    api.issue(code, "bob")  # built on the same coupon: a rival
    drain()
    rejected = told.counted("coupon_commands_total", kind="issue", outcome="rejected")
    assert rejected == told.counted("coupon_refusals_total", kind="issue", reason="RIVAL_WON")


def test_a_creation_counts_its_coupons(api, drain, told):
    api.create(3)
    drain()
    assert told.counted("coupon_coupons_created_total") == 3
    assert told.counted("coupon_commands_total", kind="create", outcome="accepted") == 1
    assert told.counted("coupon_commands_total", kind="create", outcome="applied") == 1


def test_a_backend_that_is_away_is_no_refusal(api, code, told, backends):
    backends.queue.close()
    assert api.issue(code).status_code == 503
    assert told.counted("coupon_commands_total", kind="issue", outcome="unavailable") == 1
    labels = {"role": "queue", "method": "ends", "error": "unavailable"}
    assert told.counted("coupon_backend_failures_total", **labels) >= 1


def test_calls_of_backends_are_counted_and_timed(api, code, told):
    api.issue(code)
    for role, method in (("cache", "write_many"), ("queue", "publish"), ("store", "get_many")):
        assert told.counted("coupon_backend_call_seconds_count", role=role, method=method) >= 1
        assert told.counted("coupon_backend_call_seconds_sum", role=role, method=method) > 0


def test_coupons_are_found_in_the_cache_or_not(api, code, told):
    api.issue(code)
    missed = told.counted("coupon_cache_lookups_total", result="miss")
    assert missed >= 1
    api.use(code)
    assert told.counted("coupon_cache_lookups_total", result="hit") >= 1
    assert told.counted("coupon_cache_lookups_total", result="miss") == missed


def test_lag_and_age_are_told_by_topic(api, code, told, clock, timer, drain):
    api.issue(code)
    clock.ms += 90_000
    assert told.now("coupon_lag_messages", topic="commands") == 1
    assert told.now("coupon_oldest_message_seconds", topic="commands") == 90
    assert told.now("coupon_lag_messages", topic="creation") == 0
    drain()
    timer.ahead_ms += questions.KEPT_MS
    assert told.now("coupon_lag_messages", topic="commands") == 0
    assert told.now("coupon_oldest_message_seconds", topic="commands") == 0


@pytest.mark.logs_error("dead letter")
def test_dead_letters_workers_and_coupons_are_told(api, code, drain, timer, backends, told):
    api.create(2)
    api.issue(code)
    backends.queue.publish([Message("commands", "poison", b"?")])
    drain()
    timer.ahead_ms += questions.COUNT_KEPT_MS
    assert told.now("coupon_dead_letters") == 1
    assert told.counted("coupon_dead_lettered_total", topic="commands") == 1
    assert told.now("coupon_workers", topic="commands") == told.now("coupon_workers", topic="reindex") == 1
    assert told.now("coupon_partitions_left_alone", topic="commands") == 0
    assert told.now("coupon_coupons", state="free") == 2
    assert told.now("coupon_coupons", state="issued") == 1
    assert told.now("coupon_coupons", state="used") == 0


def test_a_topic_that_no_worker_reads_is_told_as_such(told):
    assert told.now("coupon_workers", topic="commands") == 0


def test_each_version_is_told(told):
    [version] = {dict(labels)["version"] for name, labels in told.scrape() if name == "coupon_processes"}
    assert re.fullmatch(r"\d+\.\d+\.\d+|unknown", version)


def test_a_search_that_hangs_takes_only_its_own_values(api, told, backends, monkeypatch, timer):
    release = threading.Event()
    monkeypatch.setattr(backends.search, "count", lambda: (release.wait(20), 0, 0))
    timer.ahead_ms += questions.COUNT_KEPT_MS
    try:
        takes_less_than(4, told.scrape)
        timer.ahead_ms += FRESH_MS
        takes_less_than(1, told.scrape)  # nobody waits again for the same answer
        assert told.now("coupon_answered", question="count") == 0
        assert told.now("coupon_answered", question="queue") == 1
        assert told.now("coupon_coupons", state="free") is None
        assert told.now("coupon_lag_messages", topic="commands") == 0
    finally:
        release.set()


def test_what_is_asked_is_kept_for_a_while_and_asked_once_by_all(api, told, backends, monkeypatch, timer):
    asked = []
    monkeypatch.setattr(backends.search, "count", lambda: asked.append(1) or (1, 2, 3))
    timer.ahead_ms += questions.COUNT_KEPT_MS
    for _ in range(3):
        assert told.now("coupon_coupons", state="used") == 3
    assert len(asked) == 1


def test_a_count_that_takes_too_long_refuses_no_list_and_is_not_repeated_soon(api, told, backends, monkeypatch, timer):
    asked = []

    def count():
        asked.append(1)
        timer.ahead_ms += 5_000
        raise BackendUnavailable("that took too long")

    monkeypatch.setattr(backends.search, "count", count)
    timer.ahead_ms += questions.COUNT_KEPT_MS
    assert told.now("coupon_answered", question="count") == 0
    assert told.now("coupon_circuit_breakers_open", role="search") == 0
    assert api.get("/v1/users/ann/coupons").status_code == 200
    timer.ahead_ms += questions.SHARE * 5_000 - 1_000
    told.scrape()
    assert len(asked) == 1
    timer.ahead_ms += 1_000
    told.scrape()
    assert len(asked) == 2


def test_a_backend_that_fails_takes_only_its_own_values(told, backends, timer):
    backends.cache.close()
    assert told.now("coupon_answered", question="cache") == 0
    assert told.now("coupon_workers", topic="commands") is None
    assert told.now("coupon_answered", question="store") == 1


@pytest.mark.logs_error("unexpected error")
def test_a_bug_in_a_question_hides_no_other_answer(told, backends, monkeypatch, timer):
    monkeypatch.setattr(backends.search, "count", lambda: None)
    timer.ahead_ms += questions.COUNT_KEPT_MS
    assert told.now("coupon_answered", question="count") == 0
    assert told.now("coupon_answered", question="queue") == 1


def test_a_circuit_breaker_is_told_until_the_next_success(api, told, backends, monkeypatch, timer):
    def fail(*_arguments):
        timer.ahead_ms += 1_000
        raise BackendUnavailable("it hangs")

    with monkeypatch.context() as patched:
        patched.setattr(backends.search, "find", fail)
        assert api.get("/v1/users/ann/coupons").status_code == 503
        assert told.now("coupon_circuit_breakers_open", role="search") == 1
    timer.ahead_ms += 10_000
    told.scrape()  # asks search as a list does
    assert told.now("coupon_circuit_breakers_open", role="search") == 0


def test_parameters_of_a_scrape_are_ignored(api):
    assert api.get("/metrics?x=1").status_code == 200


def test_every_metric_has_its_unit_and_no_name_twice():
    names = [instrument.name for instrument in instruments.ALL if instrument.name.startswith("coupon_")]
    assert len(names) == len(set(names)) >= 20
    times = [each.name for each in instruments.ALL if isinstance(each, instruments.Histogram)]
    assert all(name.endswith("_seconds") for name in times if name.startswith("coupon_"))


def test_dead_letters_of_nobody_are_counted_too(told, backends, timer):
    backends.queue.publish([Message(DEAD_LETTERS, "k", b"of somebody else")])
    timer.ahead_ms += questions.KEPT_MS
    assert told.now(metrics.DEAD_LETTERS.name) == 1


def test_two_applications_of_one_process_are_counted_together(settings, backends, api, told):
    other = Api(create_app(settings, backends).test_client())
    other.use("A" * 19)
    api.use("A" * 19)
    assert told.counted("coupon_refusals_total", kind="use", reason="NOT_FOUND") == 2
