"""Each of the four real servers killed under traffic and started again: what still works, what is refused, and that it
goes on by itself. One after the other under one service, whose processes outlive them all."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from tests.e2e.deployment import Deployment, eventually, on_services

pytestmark = pytest.mark.services
CLIENTS = 4
UNNOTICED = ("memcached", "elasticsearch")
"""Who gives commands need not know that these are away."""


class Traffic:
    """Clients that issue fresh codes, one after the other, each with a key of its own.

    A client retries with its key until it gets an answer. Every answer is counted, with its time.
    """

    def __init__(self, service: Deployment, codes: list[str], users: list[str]) -> None:
        self.service, self.codes, self.users = service, codes, users
        self.answers: Counter[int] = Counter()
        self.accepted: dict[str, str] = {}
        self.slowest_s = 0.0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def since(self) -> Counter[int]:
        """The answers since the last call."""
        with self._lock:
            answers, self.answers = self.answers, Counter()
        return answers

    def flows(self) -> None:
        """Wait until commands are accepted (again)."""
        before = len(self.accepted)
        eventually(lambda: len(self.accepted) > before + 10, 60)

    def is_refused(self) -> None:
        """Wait until each client must have been told so more than once."""
        eventually(lambda: self.answers[503] > CLIENTS * 2, 15)

    def _client(self, number: int) -> None:
        with requests.Session() as session:
            for code in self.codes[number::CLIENTS]:
                if self._stop.is_set() or not self._issue(session, code, self.users[number]):
                    return
        raise AssertionError("out of codes")

    def _issue(self, session: requests.Session, code: str, user_id: str) -> bool:
        while not self._stop.is_set():
            started = time.monotonic()
            answer = self.service.put(
                "issue", session, couponCode=code, userId=user_id, headers={"Idempotency-Key": f"issue-{code}"}
            )
            with self._lock:
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                self.answers[answer.status_code] += 1
            if answer.status_code == 202:
                self.accepted[code] = answer.json()["operationId"]
                time.sleep(0.2)
                return True
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.headers["Content-Type"] == "application/problem+json"
            time.sleep(0.1)
        return False


@pytest.fixture(params=["memcached", "elasticsearch", "kafka", "dynamodb"])
def server(request):
    return request.param


@pytest.fixture(scope="module")
def service(services, tmp_path_factory):
    with Deployment(on_services(tmp_path_factory.mktemp("service"), services), workers=2) as deployment:
        yield deployment


@contextmanager
def writing_nothing(service: Deployment, server: str) -> Iterator[None]:
    """Nobody writes for a moment, so that a kill -9 of DynamoDB Local loses nothing.

    It answers a few milliseconds before it has committed, as the real service never does.
    """
    stopped = service.workers if server == "dynamodb" else []
    for worker in stopped:
        worker.send_signal(signal.SIGSTOP)
    time.sleep(0.3 if stopped else 0)
    yield
    for worker in stopped:
        worker.send_signal(signal.SIGCONT)


def test_a_server_killed_under_traffic_and_started_again(server, service, services):
    codes, users = service.create(1_500), [f"{server}{number}" for number in range(CLIENTS)]
    with Traffic(service, codes, users) as traffic:
        traffic.flows()
        assert set(traffic.since()) == {202}
        with writing_nothing(service, server):
            services.kill(server)
        try:
            time.sleep(3)
            if server in UNNOTICED:
                assert set(traffic.since()) == {202}
            else:
                traffic.is_refused()
                assert service.get("/readyz").status_code == 503
            if server == "elasticsearch":
                query = service.get(f"/v1/users/{users[0]}/coupons")
                assert (query.status_code, query.json()["code"]) == (503, "UNAVAILABLE")
        finally:
            services.up(server)
        traffic.flows()
    assert traffic.slowest_s < 5
    if server in UNNOTICED:
        assert set(traffic.since()) == {202}
    everything_accepted_is_applied(service, traffic.accepted)
    for number, user_id in enumerate(users):
        held = len(traffic.accepted.keys() & set(codes[number::CLIENTS]))
        eventually(lambda user_id=user_id, held=held: coupons_of(service, user_id) == held, 60)


def everything_accepted_is_applied(service: Deployment, accepted: dict[str, str]) -> None:
    for code, operation in accepted.items():

        def applied(code: str = code, operation: str = operation) -> bool:
            history = service.get(f"/v1/coupons/{code}").json()["history"]
            return [entry["operationId"] for entry in history[1:]] == [operation]

        eventually(applied, 60, KeyError)


def coupons_of(service: Deployment, user_id: str) -> int:
    """How many coupons the user's list has, all pages."""
    items, cursor = 0, None
    while True:
        answer = service.get(
            f"/v1/users/{user_id}/coupons", params={"limit": 1000} | ({"cursor": cursor} if cursor else {})
        )
        if answer.status_code != 200:
            return -1
        items, cursor = items + len(answer.json()["items"]), answer.json()["next"]
        if cursor is None:
            return items
