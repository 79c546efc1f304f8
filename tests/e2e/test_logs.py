"""The log of a running service: an object a line, a trace from the request to the worker. And what systemd hears."""

import json
import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.e2e.deployment import ROOT, Deployment, embedded, eventually, free_port

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The lines of web and worker, by event, of a service in which one coupon was issued, until its end."""
    folder = tmp_path_factory.mktemp("logged")
    with Deployment(embedded(folder), web=1) as service:
        (code,) = service.create(1)
        assert service.put("issue", headers=TRACED, couponCode=code, userId="ann").status_code == 202
        eventually(lambda: service.get(f"/v1/coupons/{code}").json()["issued"], 20)
    sides: dict[str, dict[str, list]] = {}
    for side in ("web", "worker"):
        for line in (folder / f"{side}.log").read_text().splitlines():
            told = json.loads(line)
            sides.setdefault(side, {}).setdefault(told["event"], []).append(told)
    return sides


def test_each_line_of_both_sides_is_an_object(ended):
    assert {"gunicorn", "started", "accepted"} <= ended["web"].keys()
    assert {"started", "created", "applied", "stopped"} <= ended["worker"].keys()
    assert all(
        {"event", "level", "timestamp"} <= line.keys()
        for side in ended.values()
        for lines in side.values()
        for line in lines
    )


def test_each_side_tells_its_version_and_machine_when_it_starts(ended):
    for side in ended.values():
        told = [(line["version"], line["host"]) for line in side["started"]]
        assert told == [(version("coupon"), socket.gethostname())]


def test_a_trace_is_followed_from_the_request_to_the_worker(ended):
    assert [line.get("trace_id") for line in ended["web"]["accepted"] if line["kind"] == "issue"] == [TRACE]
    assert [line["trace_ids"] for line in ended["worker"]["applied"]] == [[TRACE]]


def test_the_web_side_tells_systemd_that_it_is_ready(tmp_path):
    """As a unit of Type=notify wants it, from the very process that was started."""
    service = Deployment(embedded(tmp_path))
    service.coupon("init")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        notified.settimeout(30)
        environ = service.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "PORT": str(free_port())}
        command = [str(Path(sys.executable).parent / "coupon"), "web"]
        with (tmp_path / "log").open("wb") as log:
            web = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        try:
            told, ancillary, _, _ = notified.recvmsg(4_096, socket.CMSG_SPACE(12))
        finally:
            web.terminate()
            web.wait(30)
    (_, _, credentials) = ancillary[0]
    assert told.startswith(b"READY=1")
    assert int.from_bytes(credentials[:4], sys.byteorder) == web.pid


def test_the_version_is_told_without_any_configuration(tmp_path):
    coupon = str(Path(sys.executable).parent / "coupon")
    environ = os.environ | {"COUPON_CONF": "/no/where.env", "COUPON_NONSENSE": "x", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([coupon, "--version"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"coupon, version {version('coupon')}\n", "")
    assert list(tmp_path.iterdir()) == []
