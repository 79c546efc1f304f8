"""The promises of design §2 on running processes, embedded and on the real servers."""

import os
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import urllib3

from tests.e2e.deployment import Deployment, eventually

CLIENTS = 16


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
    assert service.put("issue", couponCode=code, userId="ann", headers=wait).json()["status"] == "applied"
    assert service.put("issue", couponCode=code, userId="bob").json()["code"] == "ALREADY_ISSUED"
    assert service.put("use", couponCode=code, userId="bob").json()["code"] == "NOT_HOLDER"
    assert service.put("use", couponCode=code, userId="ann", headers=wait).status_code == 200
    assert service.put("cancel", couponCode=code).json()["code"] == "ALREADY_USED"
    assert service.put("cancel-use", couponCode=code, headers=wait).status_code == 200
    eventually(lambda: len(service.get("/v1/users/ann/coupons").json()["items"]) == 1, 10)
    assert service.put("cancel", couponCode=code, headers=wait).status_code == 200
    history = service.get(f"/v1/coupons/{code}").json()["history"]
    assert [entry["command"] for entry in history] == ["create", "issue", "use", "cancel-use", "cancel"]
    eventually(lambda: service.get("/v1/users/ann/coupons").json()["items"] == [], 10)
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


def test_a_worker_killed_five_times_during_20_000_commands_loses_and_doubles_nothing(service):
    """Each of 16 clients drives its own coupons through chains, so every accepted command has to be applied."""
    codes = service.create(2000)
    accepted: list[tuple[str, str]] = []
    chain = ["issue", "use", "cancel-use", "cancel"] * 2 + ["issue", "use"]
    done = threading.Event()

    def drive(number: int) -> None:
        with urllib3.HTTPConnectionPool("127.0.0.1", service.port, timeout=10, retries=False) as http:
            for code in codes[number::CLIENTS]:
                for command in chain:
                    body = {"couponCode": code} | ({"userId": f"user{number}"} if command == "issue" else {})
                    while (answer := http.request("PUT", f"/v1/coupons/{command}", json=body)).status == 503:
                        pass
                    assert answer.status == 202, answer.data
                    accepted.append((code, answer.json()["operationId"]))

    def kill() -> None:
        for kills in range(1, 6):
            eventually(lambda kills=kills: len(accepted) > kills * 3000, 300)
            service.kill_worker()
        done.set()

    killer = threading.Thread(target=kill)
    killer.start()
    with ThreadPoolExecutor(CLIENTS) as pool:  # a client that costs less than the service: 20,000 are many
        list(pool.map(drive, range(CLIENTS)))
    killer.join()
    assert done.is_set()
    assert len(accepted) == 20_000

    operations: dict[str, list[str]] = {}
    for code, operation in accepted:
        operations.setdefault(code, []).append(operation)

    def is_carried_out(code: str) -> bool:
        history = service.get(f"/v1/coupons/{code}").json()["history"][1:]
        told = [entry["command"] for entry in history], [entry["operationId"] for entry in history]
        return told == (chain, operations[code])

    eventually(lambda: all(is_carried_out(code) for code in random.sample(codes, 5)), 240)
    for code in codes:
        eventually(lambda code=code: is_carried_out(code), 60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_told_to_stop_finishes_and_leaves_with_0_within_10_s(service, number):
    service.create(3000)
    (worker,) = service.workers
    os.kill(worker.pid, number)
    assert worker.wait(10) == 0


def test_a_retry_with_the_same_key_changes_nothing_even_after_the_cache_was_lost(environ, tmp_path):
    with Deployment(environ) as service:
        (code,) = service.create(1)
        key = {"Idempotency-Key": "k1", "Prefer": "wait=10"}
        first = service.put("issue", couponCode=code, userId="ann", headers=key)
        service.put("use", couponCode=code, headers={"Prefer": "wait=10"})
        again = service.put("issue", couponCode=code, userId="ann", headers=key)
        other = service.put("issue", couponCode=code, userId="bob", headers=key)
        assert again.status_code == 200
        assert again.json()["operationId"] == first.json()["operationId"]
        assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
        assert len(service.get(f"/v1/coupons/{code}").json()["history"]) == 3
