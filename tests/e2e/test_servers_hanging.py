"""Each of the four real servers is stopped while forty callers ask for what needs it.

It takes connections then, and answers nothing. The process stays alive for its probes, and what can do without that
server goes on. Then all is well again.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from backends.testing.timing import takes_less_than
from tests.e2e.deployment import Deployment, eventually, on_services

pytestmark = pytest.mark.services
CALLERS = 40
LIST, TODAY = "/v1/users/nobody/coupons", "/v1/coupons/expired/today"
ANY_CODE = "/v1/coupons/AAAAA-AAAAAA-AAAAAAAA"
CREATION = {"amount": 1, "validFrom": "2020-01-01", "expireAt": "2099-12-31"}
HANGS = [
    ("elasticsearch", "GET", LIST, ["issue", ANY_CODE, "create"]),
    ("elasticsearch", "GET", "/readyz", ["issue", ANY_CODE, "create"]),
    ("dynamodb", "GET", ANY_CODE, [LIST, "create"]),
    ("dynamodb", "GET", "/readyz", [LIST, "create"]),
    ("kafka", "POST", "/v1/coupons", [LIST, ANY_CODE]),
    ("memcached", "PUT", "/v1/coupons/issue", [LIST, ANY_CODE, "create"]),
]


@pytest.fixture(scope="module")
def service(services, tmp_path_factory) -> Iterator[Deployment]:
    with Deployment(on_services(tmp_path_factory.mktemp("service"), services), web=1, workers=1) as deployment:
        yield deployment


@contextmanager
def crowd(service: Deployment, method: str, path: str, codes: list[str]) -> Iterator[Counter[int]]:
    """Callers who ask again and again while the context lasts; how often each status was answered."""
    stop, statuses = threading.Event(), Counter[int]()

    def ask(code: str) -> None:
        body = {"couponCode": code, "userId": "ann"} if path.endswith("issue") else CREATION
        with requests.Session() as session:
            while not stop.wait(0.05):
                sent = None if method == "GET" else body
                statuses[session.request(method, service.url + path, json=sent, timeout=60).status_code] += 1

    threads = [threading.Thread(target=ask, args=(code,)) for code in codes]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(("server", "method", "path", "goes_on"), HANGS)
def test_a_server_that_hangs_holds_up_no_probe_and_nothing_that_does_without(
    service, services, server, method, path, goes_on
):
    codes, mine = service.create(CALLERS), service.create(10)
    asks = {
        "issue": lambda: service.put("issue", couponCode=mine.pop(), userId="bob"),
        "create": lambda: service.session.post(f"{service.url}/v1/coupons", json=CREATION, timeout=60),
    }

    def works(ask: str) -> None:
        answer = asks[ask]() if ask in asks else service.session.get(service.url + ask, timeout=60)
        assert answer.status_code in (200, 202, 404), answer.text

    with services.silent(server), crowd(service, method, path, codes) as statuses:
        eventually(lambda: sum(statuses.values()) > CALLERS, 60)
        for ask in ("/livez", *goes_on):
            takes_less_than(1.5, lambda ask=ask: works(ask))
    eventually(lambda: service.get("/readyz").json()["status"] == "ready", 30)
    eventually(lambda: service.get(LIST).status_code == 200, 30)
    eventually(lambda: service.get(ANY_CODE).status_code == 404, 30)
    eventually(lambda: asks["create"]().status_code == 202, 30)
    assert service.web is not None
    assert service.web.poll() is None
