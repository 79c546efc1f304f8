"""What `make run` starts, with the real gunicorn and stand-ins for the application and the worker."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from coupon.runtime import gc_tuning as garbage
from coupon.runtime.supervisor import stop

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"here"]
"""
FROZEN = """
import gc

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{gc.get_freeze_count()} {gc.get_threshold()[0]}".encode()]
"""
WORKER = """
import signal, sys, threading
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("worker is here", flush=True)
stop.wait()
"""
HERE = 'print("worker is here", flush=True)\n'
DEAF = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
child.wait()
"""
USUAL = {"WEB_CONCURRENCY": "1", "COUPON_LOG_FORMAT": "text"}
SOON_S = 30
CONF = Path(__file__).parents[2] / "conf" / "gunicorn.conf.py"


class House:
    """A running supervisor in a folder of its own."""

    def __init__(self, folder, worker=WORKER, wsgi=WSGI, **environ):
        (folder / "conf").mkdir()
        shutil.copy(CONF, folder / "conf")
        (folder / "wsgi.py").write_text(wsgi)
        (folder / "worker.py").write_text(worker)
        self.port = _unused_port()
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "coupon.runtime.supervisor"],
                cwd=folder,
                env={**os.environ, **USUAL, "PORT": str(self.port), **environ},
                stdout=log,
                stderr=log,
            )

    def wait_for(self, sentence, times=1):
        eventually(lambda: len(re.findall(sentence, self.log.read_text())) >= times, lambda: self.log.read_text())

    def children(self, command):
        """Process ids of those below the supervisor whose command line has the word."""
        return [pid for pid in _descendants(self.process.pid) if command in _command_line(pid)]

    def complete(self):
        """Process ids of all below the supervisor, once the web side answers and two workers are here."""
        self.wait_for("worker is here", times=2)
        assert self.get() == b"here"
        return _descendants(self.process.pid)

    def get(self):
        self.wait_for("Listening at")  # gunicorn says so
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
            return answer.read()

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(SOON_S)


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path, WORKERS="2")
    yield house
    house.end()


def test_web_and_workers_run_and_one_line_tells_where(house):
    house.wait_for(rf"Coupon will be at http://127\.0\.0\.1:{house.port} and explained at .*/docs; 2 worker\(s\)")
    house.complete()


def test_the_line_tells_the_address_that_was_chosen(tmp_path):
    house = House(tmp_path, HOST="0.0.0.0")
    try:
        house.wait_for(rf"Coupon will be at http://0\.0\.0\.0:{house.port} ")
    finally:
        house.end()


def test_every_line_is_a_json_object_where_nobody_chose_text(tmp_path):
    house = House(tmp_path, worker=WORKER.replace(HERE, ""), COUPON_LOG_FORMAT="")
    try:
        house.wait_for("Booting worker")
        os.kill(house.children("worker.py")[0], signal.SIGKILL)
        house.wait_for("again in 1 s")
    finally:
        house.end()
    lines = [line for line in house.log.read_text().splitlines() if "[info" not in line]  # the stand-in sets up no logs
    said = list(map(json.loads, lines))
    assert {line["event"] for line in said} == {"run", "gunicorn", "open", "started"}
    (killed,) = [line for line in said if "SIGKILL" in line.get("message", "")]
    assert (killed["event"], killed["level"]) == ("run", "warning")
    assert [line["timestamp"] for line in said if line["event"] == "run"] == sorted(
        line["timestamp"] for line in said if line["event"] == "run"
    )


def test_at_a_terminal_it_says_so_in_text(tmp_path):
    ours, terminal = pty.openpty()
    environ = os.environ | {"WORKERS": "-1", "COUPON_LOG_FORMAT": "json"}
    ran = subprocess.run(
        [sys.executable, "-m", "coupon.runtime.supervisor"], cwd=tmp_path, env=environ, stderr=terminal, check=False
    )
    said = os.read(ours, 1_000)
    os.close(terminal)
    os.close(ours)
    assert (ran.returncode, said.partition(b"=")[0]) == (2, b"run: WORKERS")


def test_a_host_that_is_none_of_this_machine_stops_the_start_with_a_sentence(tmp_path):
    house = House(tmp_path, HOST="192.0.2.1")
    assert house.process.wait(SOON_S) == 2
    assert house.log.read_text().startswith(f"run: cannot listen on 192.0.2.1:{house.port} (Cannot assign")


def test_the_garbage_collector_does_not_go_through_what_a_web_process_loaded(tmp_path):
    house = House(tmp_path, wsgi=FROZEN)
    try:
        frozen, threshold = map(int, house.get().split())
        assert frozen > 10_000
        assert threshold == garbage.MANY
    finally:
        house.end()


def test_a_killed_worker_is_started_again_and_said_so(house):
    house.wait_for("worker is here", times=2)
    victim = house.children("worker.py")[0]
    os.kill(victim, signal.SIGKILL)
    house.wait_for(r"worker \d was killed by SIGKILL; again in 1 s")
    house.wait_for("worker is here", times=3)
    assert victim not in house.children("worker.py")
    assert len(house.children("worker.py")) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_leaves_cleanly_and_leaves_nobody_behind(house, number):
    family = house.complete()
    assert len(family) == 4  # gunicorn and its one process, two workers
    house.process.send_signal(number)
    assert house.process.wait(SOON_S) == 0
    assert [pid for pid in family if _lives(pid)] == []


def test_the_children_end_when_the_supervisor_is_killed(house):
    family = house.complete()
    house.process.kill()
    eventually(lambda: not any(_lives(pid) for pid in family), lambda: [_command_line(pid) for pid in family])


def test_everything_ends_when_the_web_side_ends(house):
    family = house.complete()
    os.kill(house.children("gunicorn")[0], signal.SIGKILL)
    assert house.process.wait(SOON_S) == 1
    assert "web was killed by SIGKILL, so everything is stopped" in house.log.read_text()
    assert [pid for pid in family if _lives(pid)] == []


def test_a_worker_that_ends_at_once_is_started_again_and_again(tmp_path):
    house = House(tmp_path, worker="raise SystemExit(1)")
    try:
        house.wait_for(r"worker 1 ended with exit status 1; again in 1 s", times=2)
    finally:
        house.end()


def test_a_worker_that_does_not_listen_is_killed_in_the_end_with_what_it_started(capsys):
    deaf = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, process_group=0)
    grandchild = int(deaf.stdout.readline())
    stop([deaf], grace_s=0.2)
    deaf.stdout.close()
    assert deaf.returncode == -signal.SIGKILL
    assert f"process {deaf.pid} did not end within 0.2 s and is killed" in capsys.readouterr().err
    eventually(lambda: not _lives(grandchild), lambda: _command_line(grandchild))


def test_a_port_that_is_taken_stops_the_start_with_a_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        house = House(tmp_path, PORT=str(port))
        assert house.process.wait(SOON_S) == 2
    assert house.log.read_text().startswith(f"run: cannot listen on 127.0.0.1:{port} (Address already in use)")
    assert house.log.read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "http"), ("PORT", "65536"), ("WORKERS", "-1"), ("WORKERS", "65"), ("WEB_CONCURRENCY", "x")],
)
def test_an_impossible_number_stops_the_start_with_a_sentence(tmp_path, name, value):
    house = House(tmp_path, **{name: value})
    assert house.process.wait(SOON_S) == 2
    assert house.log.read_text().startswith(f"run: {name}='{value}' is not a whole number from")


def test_an_empty_number_of_web_processes_is_the_default(tmp_path):
    """Gunicorn itself would end with a traceback."""
    house = House(tmp_path, WEB_CONCURRENCY="")
    try:
        assert house.get() == b"here"
    finally:
        house.end()


def eventually(holds, otherwise):
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


def _unused_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _descendants(pid):
    listing = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, listing) for found in (child, *_descendants(child))]


def _command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""


def _lives(pid):
    """Not gone, and not a zombie that nobody collected yet."""
    return _command_line(pid) != ""
