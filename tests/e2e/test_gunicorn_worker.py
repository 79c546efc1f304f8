"""gunicorn's threads stay with a busy connection, and starve nobody; its processes may be pinned to CPUs."""

import os
import selectors
import signal
import socket
import time
from types import SimpleNamespace

import pytest
import requests

from coupon.web import gunicorn_worker
from coupon.web.gunicorn_worker import HESITATE_S, KeepAliveThreadWorker
from coupon.web.slow_clients import SlowClients
from tests.e2e.deployment import Deployment, children, embedded, eventually

ASK = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    environ = embedded(tmp_path_factory.mktemp("service")) | {"WEB_THREADS": "1"}
    with Deployment(environ, web=1, workers=0) as service:
        service.session.close()
        yield service


def test_one_thread_serves_several_connections_in_turn(service):
    sessions = [requests.Session() for _ in range(3)]
    began = time.monotonic()
    for _ in range(20):
        for session in sessions:
            assert session.get(f"{service.url}/livez", timeout=5).status_code == 200
    assert time.monotonic() - began < 10
    for session in sessions:
        session.close()


@pytest.mark.parametrize("pause_s", [0, 0.05])
def test_a_connection_is_answered_again_and_again(service, pause_s):
    with requests.Session() as session:
        for _ in range(10):
            assert session.get(f"{service.url}/livez", timeout=5).status_code == 200
            time.sleep(pause_s)


def test_requests_that_are_sent_at_once_are_all_answered(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
        connection.sendall(ASK * 5)
        answers = b""
        while answers.count(b"200 OK") < 5:
            received = connection.recv(65_536)
            assert received, answers
            answers += received


def test_a_caller_who_hangs_up_costs_no_thread(service):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
            connection.sendall(ASK)
            assert b"200 OK" in connection.recv(65_536)
    with requests.Session() as session:
        assert session.get(f"{service.url}/livez", timeout=5).status_code == 200


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a machine with one processor")
def test_a_pinned_process_keeps_to_a_cpu_and_who_replaces_it_takes_the_same(tmp_path):
    processors = os.sched_getaffinity(0)
    with Deployment(embedded(tmp_path) | {"WEB_PIN_CPU": "1"}, web=len(processors), workers=0) as service:

        def kept() -> list[int]:
            return sorted(number for pid in children(service.process.pid) for number in os.sched_getaffinity(pid))

        eventually(lambda: kept() == sorted(processors), 20, OSError)
        killed = children(service.process.pid)[0]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: killed not in children(service.process.pid) and kept() == sorted(processors), 20, OSError)


@pytest.mark.parametrize(("pin", "web"), [("1", 1), ("0", 2), ("", 2)])
def test_unless_it_is_chosen_and_there_is_one_for_each_cpu_the_kernel_chooses(tmp_path, pin, web):
    with Deployment(embedded(tmp_path) | {"WEB_PIN_CPU": pin}, web=web, workers=0) as service:
        eventually(lambda: len(children(service.process.pid)) == web, 20)
        for process in children(service.process.pid):
            assert os.sched_getaffinity(process) == os.sched_getaffinity(0)


def test_a_connection_that_made_room_for_one_that_moved_with_it_is_let_alone():
    worker = KeepAliveThreadWorker.__new__(KeepAliveThreadWorker)
    worker.parked, worker.held, worker.nr_conns, worker.quiet, worker.most, worker.alive = set(), 0, 0, 0, 1, True
    worker.poller, worker.slow_clients = selectors.DefaultSelector(), SlowClients()
    worker.cfg = SimpleNamespace(keepalive=5, threads=4)
    with (
        worker.poller,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        worker.accept(listener)
        client.sendall(b"G")
        [(key, _)] = worker.poller.select(5)
        listener.setblocking(False)
        worker.accept(listener)  # makes room, and another process took the next one
        assert (worker.parked, worker.nr_conns, key.fileobj.fileno()) == (set(), 0, -1)
        key.data(key.fileobj)
        assert (worker.parked, worker.nr_conns) == (set(), 0)


@pytest.mark.parametrize(("busy", "pauses"), [(3, []), (4, [HESITATE_S])])
def test_a_process_with_a_busy_connection_for_each_thread_lets_another_one_accept_first(monkeypatch, busy, pauses):
    slept = []
    monkeypatch.setattr(gunicorn_worker, "time", SimpleNamespace(sleep=slept.append))
    worker = KeepAliveThreadWorker.__new__(KeepAliveThreadWorker)
    worker.nr_conns, worker.quiet, worker.most, worker.cfg = 7 + busy, 7, 100, SimpleNamespace(threads=4)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        worker.accept(listener)  # another process took it
    assert (worker.nr_conns, slept) == (7 + busy, pauses)
