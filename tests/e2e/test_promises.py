"""The promises of design §2 on running processes, embedded and on the real servers."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import requests
import urllib3

from coupon.acceptance.reservations import cache_key
from coupon.domain.codes import parse
from coupon.ports.cache import Cache
from coupon.runtime.wiring import open_backend
from tests.e2e.deployment import Deployment, embedded, eventually, on_services

CLIENTS = 16
CHAIN = ["issue", "use", "cancel-use", "cancel"] * 2 + ["issue", "use"]


def in_parallel(work: Callable[[requests.Session, int], None], clients: int = CLIENTS) -> None:
    """Run ``work(session, number)`` in that many threads at once; an error in any is raised."""
    start = threading.Barrier(clients)

    def client(number: int) -> None:
        with requests.Session() as session:
            start.wait()
            work(session, number)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))


def test_the_main_job(service):
    codes = service.create(25)
    code = codes[0]
    wait = {"Prefer": "wait=10"}
    assert service.put("issue", couponCode=code, userId="eve", headers=wait).json()["status"] == "applied"
    assert service.put("issue", couponCode=code, userId="bob").json()["code"] == "ALREADY_ISSUED"
    assert service.put("use", couponCode=code, userId="bob").json()["code"] == "NOT_HOLDER"
    assert service.put("use", couponCode=code, userId="eve", headers=wait).status_code == 200
    assert service.put("cancel", couponCode=code).json()["code"] == "ALREADY_USED"
    assert service.put("cancel-use", couponCode=code, headers=wait).status_code == 200
    eventually(lambda: len(service.get("/v1/users/eve/coupons").json()["items"]) == 1, 10)
    assert service.put("cancel", couponCode=code, headers=wait).status_code == 200
    history = service.get(f"/v1/coupons/{code}").json()["history"]
    assert [entry["command"] for entry in history] == ["create", "issue", "use", "cancel-use", "cancel"]
    eventually(lambda: service.get("/v1/users/eve/coupons").json()["items"] == [], 10)
    ready = service.get("/readyz")
    assert ready.status_code == 200, ready.text


def test_of_sixteen_clients_that_race_for_a_code_one_wins_a_hundred_times(service):
    codes = service.create(100)
    answers: dict[str, list[requests.Response]] = {code: [] for code in codes}
    rounds = threading.Barrier(CLIENTS)

    def race(session: requests.Session, number: int) -> None:
        for code in codes:
            rounds.wait()
            answer = service.put("issue", session, couponCode=code, userId=f"user{number}")
            while answer.status_code == 503:
                answer = service.put("issue", session, couponCode=code, userId=f"user{number}")
            answers[code].append(answer)

    in_parallel(race)
    for code in codes:
        assert sorted(answer.status_code for answer in answers[code]) == [202] + [409] * (CLIENTS - 1)
    winners = {code: next(a for a in answers[code] if a.status_code == 202).json()["operationId"] for code in codes}

    def is_settled(code: str) -> bool:
        history = service.get(f"/v1/coupons/{code}").json()["history"]
        return [entry["operationId"] for entry in history[1:]] == [winners[code]]

    for code in codes:
        eventually(lambda code=code: is_settled(code), 30)


def test_a_worker_killed_five_times_during_20_000_commands_loses_and_doubles_nothing(tmp_path):
    environ = embedded(tmp_path)
    environ["COUPON_QUEUE_URL"] += "?lease_s=2"  # or most of the time the work would wait for the dead worker's lease
    with Deployment(environ) as service:
        kill_at_work(service, commands=20_000, times=5)


@pytest.mark.services
def test_on_the_real_servers_a_worker_killed_twice_during_4_000_commands_loses_and_doubles_nothing(services, tmp_path):
    with Deployment(on_services(tmp_path, services, cache_timeout_s=2)) as service:
        kill_at_work(service, commands=4_000, times=2)


def kill_at_work(service: Deployment, commands: int, times: int) -> None:
    """Coupons are driven through chains, 16 at a time, so every accepted command has to be applied. Each worker is
    killed once it is at work: it had to wait for what the one before it held."""
    codes = service.create(commands // len(CHAIN) + times)
    operations: dict[str, list[str]] = {code: [] for code in codes[times:]}
    with ThreadPoolExecutor(CLIENTS) as pool:
        driving = [pool.submit(drive, service, code, applied) for code, applied in operations.items()]
        for kills, canary in enumerate(codes[:times], start=1):
            share = kills / (times + 1)
            eventually(lambda share=share: sum(map(len, operations.values())) > commands * share, 300)
            service.put("issue", couponCode=canary, userId="ann")
            eventually(lambda canary=canary: len(history(service, canary)) == 2, 60)
            service.kill_worker()
        for driven in driving:
            driven.result()
    for code, applied in operations.items():
        expected = list(zip(CHAIN, applied, strict=True))
        eventually(lambda code=code, expected=expected: history(service, code)[1:] == expected, 120)


def drive(service: Deployment, code: str, operations: list[str]) -> None:
    """A client that costs less than the service, and is connected to one of its processes for this coupon only."""
    with urllib3.HTTPConnectionPool("127.0.0.1", service.port, timeout=10, retries=False) as http:
        for command in CHAIN:
            body = {"couponCode": code} | ({"userId": "ann"} if command == "issue" else {})
            while (answer := http.request("PUT", f"/v1/coupons/{command}", json=body)).status == 503:
                pass
            assert answer.status == 202, answer.data
            operations.append(answer.json()["operationId"])


def history(service: Deployment, code: str) -> list[tuple[str, str]]:
    entries = service.get(f"/v1/coupons/{code}").json()["history"]
    return [(entry["command"], entry["operationId"]) for entry in entries]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_told_to_stop_finishes_and_leaves_with_0_within_10_s(service, number):
    service.create(3000)
    worker = service.workers.pop()
    os.kill(worker.pid, number)
    try:
        assert worker.wait(10) == 0
    finally:
        worker.kill()
        service.start_worker()


def test_a_retry_with_the_same_key_changes_nothing_even_after_the_cache_was_lost(service):
    (code,) = service.create(1)
    key = {"Idempotency-Key": "k1", "Prefer": "wait=10"}
    first = service.put("issue", couponCode=code, userId="ann", headers=key)
    service.put("use", couponCode=code, headers={"Prefer": "wait=10"})
    with closing(open_backend(Cache, service.environ["COUPON_CACHE_URL"])) as cache:
        key_of_code = cache_key(parse(code))
        assert cache.get(key_of_code) is not None
        cache.delete_many([key_of_code])
    again = service.put("issue", couponCode=code, userId="ann", headers=key)
    other = service.put("issue", couponCode=code, userId="bob", headers=key)
    assert again.status_code == 200
    assert again.json()["operationId"] == first.json()["operationId"]
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(service.get(f"/v1/coupons/{code}").json()["history"]) == 3
