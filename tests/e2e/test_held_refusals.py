"""Clients that ask a hanging backend again and again, without a pause, leave the CPU to others."""

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from coupon.web.refusals import AT_ONCE_A_SECOND
from tests.e2e.deployment import Deployment, embedded

CALLERS, SECONDS = 32, 4


@pytest.fixture
def silent():
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        yield server.getsockname()[1]


@pytest.fixture
def service(tmp_path, silent):
    service = Deployment(embedded(tmp_path), web=1, workers=0)
    service.coupon("init")
    service.environ["COUPON_SEARCH_URL"] = f"elasticsearch://127.0.0.1:{silent}?timeout_s=0.5"
    try:
        service.start_web()
        yield service
    finally:
        service.__exit__()


def ask_without_a_pause(url, until):
    """The status of each response to a list."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    statuses = []
    while time.monotonic() < until:
        connection.request("GET", "/v1/users/ann/coupons")
        response = connection.getresponse()
        assert json.loads(response.read())["code"] == "UNAVAILABLE"
        assert response.getheader("Retry-After") == "1"
        statuses.append(response.status)
    connection.close()
    return statuses


def test_refusals_without_end_are_held_back_and_none_is_lost(service):
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CALLERS) as pool:
        asked = [pool.submit(ask_without_a_pause, service.url, until) for _ in range(CALLERS)]
        threading.Event().wait(SECONDS / 2)
        assert service.session.get(f"{service.url}/livez", timeout=5).status_code == 200
        statuses = [status for one in asked for status in one.result()]
    assert set(statuses) == {503}
    assert len(statuses) < (SECONDS + 2) * (AT_ONCE_A_SECOND + CALLERS * 2)
