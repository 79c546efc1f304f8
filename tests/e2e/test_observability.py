"""The dashboard shows data and the alerts fire, by a real Prometheus and the files of ``conf/observability/``."""

import fcntl
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from coupon.ports.queue import Message, Queue
from coupon.runtime.wiring import open_backend
from tests.e2e.deployment import ROOT, Deployment, children, embedded, eventually, free_port
from tests.e2e.prometheus import FILES, IS_THERE, Prometheus, panel_queries

pytestmark = pytest.mark.skipif(
    not IS_THERE and not os.environ.get("CI"),
    reason="needs prometheus and promtool (Debian: apt-get install prometheus)",
)
RULES = (FILES / "rules.yml").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)
SAMPLES = re.compile(r'^coupon_commands_total{kind="issue",outcome="accepted"} (\d+)', re.MULTILINE)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    environ = embedded(tmp_path_factory.mktemp("service"))
    environ["COUPON_WORKER_METRICS"] = f"127.0.0.1:{free_port()}"
    environ["COUPON_SEARCH_URL"] += "?timeout_s=0.5"
    environ["WEB_METRICS_DIR"] = str(tmp_path_factory.mktemp("metrics"))
    with Deployment(environ, web=2, workers=1) as deployment:
        yield deployment


def run_commands(service: Deployment) -> None:
    """Something of everything: accepted, awaited, refused, listed."""
    wait = {"Prefer": "wait=10"}
    for code in service.create(8):
        service.put("issue", couponCode=code, userId="ann")
        service.put("issue", couponCode=code, userId="bob")
        service.put("use", couponCode=code, headers=wait)
    service.get("/v1/users/ann/coupons")


def publish(service: Deployment, *messages: Message) -> None:
    with closing(open_backend(Queue, service.environ["COUPON_QUEUE_URL"])) as queue:  # type: ignore[type-abstract]
        queue.publish(messages)


@contextmanager
def hanging_search(service: Deployment) -> Iterator[None]:
    """Nobody can write the search: somebody holds the lock of its file."""
    path = service.environ["COUPON_SEARCH_URL"].removeprefix("sqlite:///").partition("?")[0]
    with Path(f"{path}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def accepted(service: Deployment) -> int:
    """Issues that all web processes have accepted."""
    return sum(int(found) for found in SAMPLES.findall(service.get("/metrics").text))


def test_the_files_are_those_of_prometheus():
    for what, file in (("config", "prometheus.yml"), ("rules", "rules.yml")):
        ran = subprocess.run(
            ["promtool", "check", what, str(FILES / file)], capture_output=True, text=True, timeout=30, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_has_its_paragraph_in_the_operations():
    linked = re.findall(r"runbook: docs/operations\.md#(\w+)", RULES)
    assert (
        linked
        == [alert.lower() for alert in ALERTS]
        == [it.lower() for it in re.findall(r"^### (Coupon\w+)$", OPERATIONS, re.MULTILINE)]
    )


def test_the_numbers_of_all_processes_are_told_by_each_and_outlive_those_that_are_killed(service):
    before = accepted(service)
    for code in service.create(20):
        service.session.close()  # a new connection each: both processes take some
        assert service.put("issue", couponCode=code, userId="ann").status_code == 202
    eventually(lambda: accepted(service) == before + 20, 10)
    now = time.time_ns()
    handed_over = Path(service.environ["WEB_METRICS_DIR"]).glob("*/*.process")
    eventually(lambda files=[*handed_over]: min(file.stat().st_mtime_ns for file in files) > now, 10)
    for pid in children(service.process.pid):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: accepted(service) == before + 20, 20, OSError)
    assert service.get("/metrics").text.count("\ncoupon_processes{") == 1
    eventually(
        lambda: re.search(r"^coupon_processes{.*} 2.0$", service.get("/metrics").text, re.MULTILINE) is not None, 20
    )


def test_what_goes_wrong_is_told_by_its_alert_and_every_panel_shows_data(service, tmp_path):
    worker = service.environ["COUPON_WORKER_METRICS"]
    with Prometheus(tmp_path, f"127.0.0.1:{service.port}", worker) as prometheus:
        run_commands(service)
        eventually(lambda: len(prometheus.query("coupon_workers == 1")) == 4, 20)
        eventually(lambda: len(prometheus.query("up == 1")) == 2, 20)
        assert prometheus.firing() <= {"CouponSlow"}  # on a busy machine

        publish(service, Message("commands", "poison", b"no command"))
        eventually(lambda: "CouponDeadLetters" in prometheus.firing(), 20)

        with hanging_search(service):
            run_commands(service)
            eventually(lambda: "CouponBackendHangs" in prometheus.firing(), 20)
        run_commands(service)
        eventually(lambda: "CouponBackendHangs" not in prometheus.firing(), 30)

        empty = eventually_none(
            lambda: [t for t, q in panel_queries().items() if not all(map(prometheus.query, q))], run_commands, service
        )
        assert empty == []

        service.workers[0].kill()
        eventually(lambda: "CouponTargetDown" in prometheus.firing(), 20)
        eventually(lambda: "CouponNoWorker" in prometheus.firing(), 30)


def eventually_none(empty, work, service) -> list[str]:
    """What is left of the panels without data, after some more work."""
    deadline = time.monotonic() + 20
    while (left := empty()) and time.monotonic() < deadline:
        work(service)
    return left
