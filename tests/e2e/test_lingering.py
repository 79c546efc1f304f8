"""gunicorn's threads stay with a busy connection, and starve nobody."""

import socket
import time

import pytest
import requests

from tests.e2e.deployment import Deployment, embedded

ASK = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


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
