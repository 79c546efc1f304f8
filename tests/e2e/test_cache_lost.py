"""The cache is lost while the workers stand still and commands wait: who has no rival loses nothing."""

import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3

from tests.e2e.deployment import Deployment, embedded, eventually, on_services

CHAIN = ["issue", "use", "cancel-use", "cancel"] * 20
COUPONS = 12
Told = list[tuple[str, int, str]]
"""ChangeCoupon, status and operation or code of each answer that was not a 503."""


def test_embedded(tmp_path):
    def lose() -> None:
        for file in Path(tmp_path).glob("cache.db*"):
            file.unlink(missing_ok=True)  # SQLite deletes some of them itself

    with Deployment(embedded(tmp_path), workers=0) as service:
        commands_go_on(service, lose)


@pytest.mark.services
def test_on_the_real_servers(services, tmp_path):
    host, _, port = services.memcached.partition(":")

    def lose() -> None:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"flush_all\r\n")
            assert connection.recv(100) == b"OK\r\n"

    with Deployment(on_services(tmp_path, services, cache_timeout_s=2), workers=0) as service:
        commands_go_on(service, lose)


def commands_go_on(service: Deployment, lose: Callable[[], None]) -> None:
    """Each coupon has one client, who sends the next command after the answer to the last, and again after a 503."""
    service.start_worker()
    codes = service.create(COUPONS)
    outcomes: dict[str, Told] = {code: [] for code in codes}
    for code in codes:
        drive(service, code, outcomes[code], CHAIN[:1])
    stop_worker(service)
    with ThreadPoolExecutor(COUPONS) as clients:
        driven = [clients.submit(drive, service, code, outcomes[code], CHAIN[1:]) for code in codes]
        eventually(lambda: min(map(len, outcomes.values())) > 1, 30)
        lose()
        time.sleep(1)  # while nobody carries anything out, nobody is told yes or no on what the store knows
        service.start_worker()
        for client in driven:
            client.result(120)
    for code, answers in outcomes.items():
        assert [(command, status) for command, status, _ in answers] == [(command, 202) for command in CHAIN]
        operations = [operation for _, _, operation in answers]
        eventually(lambda code=code, operations=operations: history(service, code) == operations, 60)


def drive(service: Deployment, code: str, outcomes: Told, commands: list[str]) -> None:
    deadline = time.monotonic() + 100
    with urllib3.HTTPConnectionPool("127.0.0.1", service.port, timeout=15, retries=False) as http:
        for command in commands:
            body = {"couponCode": code} | ({"userId": "ann"} if command == "issue" else {})
            headers = {"Idempotency-Key": uuid.uuid4().hex}
            while (answer := http.request("PUT", f"/v1/coupons/{command}", json=body, headers=headers)).status == 503:
                assert answer.headers["Retry-After"]
                assert time.monotonic() < deadline
                threading.Event().wait(0.05)
            content = answer.json()
            outcomes.append((command, answer.status, content.get("operationId") or content.get("code")))


def history(service: Deployment, code: str) -> list[str]:
    return [entry["operationId"] for entry in service.get(f"/v1/coupons/{code}").json()["history"][1:]]


def stop_worker(service: Deployment) -> None:
    worker = service.workers.pop()
    worker.terminate()
    worker.wait(20)
