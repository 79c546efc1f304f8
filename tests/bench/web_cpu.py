"""CPU of an accepted command through ``wsgi_app`` on memory backends, beside a Flask view of JSON in and out."""

import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from flask import Flask, request

from coupon.acceptance.requests import Caller
from coupon.acceptance.service import CommandService
from coupon.domain.model import Day
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from coupon.web import create_app
from coupon.worker.worker import Worker, join
from tests.bench.figure import ROUNDS, Figure, cpu_us
from tests.bench.place import Place, opened, quiet

REQUESTS = 400
CROWD, REQUESTS_OF_EACH = 16, 100
BARE: "Asked" = ("PUT", "/v1/coupons/issue", {"couponCode": "A" * 19, "userId": "ann"})
FIRST, LAST = Day("2020-01-01"), Day("2099-12-31")
Asked = tuple[str, str, dict[str, Any]]


def figures(place: Place) -> list[Figure]:
    """An issue, and a creation of one coupon."""
    issue = Figure("CPU of an accepted issue", "µs", "bare Flask JSON view", at_most=1.6)
    create = Figure("CPU of an accepted creation of one", "µs", "bare Flask JSON view", at_most=1.6)
    with quiet(), opened(place.in_memory()) as (loaded, backends):
        bare, ours = through(bare_app()), through(create_app(loaded, backends))
        codes = coupons(loaded, backends, ROUNDS * REQUESTS)
        for _ in range(ROUNDS):
            issues: list[Asked] = [
                ("PUT", "/v1/coupons/issue", {"couponCode": code, "userId": "ann"}) for code in islice(codes, REQUESTS)
            ]
            creations: list[Asked] = [
                ("POST", "/v1/coupons", {"amount": 1, "validFrom": FIRST, "expireAt": LAST}) for _ in range(REQUESTS)
            ]
            echo = cpu_us(bare, map(wsgi_environ, issues))
            issue.against.append(echo)
            create.against.append(echo)
            issue.ours.append(cpu_us(ours, map(wsgi_environ, issues)))
            create.ours.append(cpu_us(ours, map(wsgi_environ, creations)))
    return [issue, create]


def crowd_figures(place: Place) -> list[Figure]:
    """An issue on SQLite, accepted and with its outcome, when sixteen threads send as many as they can."""
    yardstick = "bare Flask JSON view, sixteen threads"
    accepted = Figure("CPU of an accepted issue on SQLite, sixteen at a time", "µs", yardstick)
    awaited = Figure("CPU of an issue on SQLite until its outcome, sixteen at a time", "µs", yardstick)
    with quiet(), opened(place.embedded()) as (loaded, backends), ThreadPoolExecutor(CROWD) as crowd:
        ours = create_app(loaded, backends)
        bare, accept, apply = through(bare_app()), through(ours), through(ours, "200")
        codes = coupons(loaded, backends, 2 * ROUNDS * CROWD * REQUESTS_OF_EACH)
        for _ in range(ROUNDS):
            for send, figure, headers in ((accept, accepted, {}), (apply, awaited, {"HTTP_PREFER": "wait=10"})):
                environs = [
                    wsgi_environ(("PUT", "/v1/coupons/issue", {"couponCode": code, "userId": "ann"})) | headers
                    for code in islice(codes, CROWD * REQUESTS_OF_EACH)
                ]
                figure.ours.append(_cpu_us_of(crowd, send, environs))
                figure.against.append(_cpu_us_of(crowd, bare, [wsgi_environ(BARE) for _ in environs]))
    return [accepted, awaited]


def _cpu_us_of(crowd: ThreadPoolExecutor, send: Callable[[dict[str, Any]], None], environs: list[Any]) -> float:
    began = time.process_time()
    list(crowd.map(send, environs))
    return (time.process_time() - began) / len(environs) * 1e6


def bare_app() -> Flask:
    """What any JSON API in Flask does, and no more."""
    app = Flask("bare")

    @app.put("/v1/coupons/issue")
    def echo() -> tuple[dict[str, str], int]:
        body = request.get_json()
        return {"operationId": "x" * 20, "couponCode": body["couponCode"], "status": "accepted"}, 202

    return app


def coupons(loaded: Settings, backends: Backends, amount: int) -> Iterator[str]:
    """The codes of so many new coupons, which the store has."""
    service, worker = CommandService(backends, loaded), Worker(backends, loaded, join(backends, loaded))
    creation = service.create(amount, FIRST, LAST, Caller("bench"))
    while worker.run_once(poll_s=0):
        pass
    stop = threading.Event()
    stop.set()
    worker.run(stop)  # leaves the group
    return iter(service.codes(creation, 0, amount))


def wsgi_environ(asked: Asked) -> dict[str, Any]:
    """As gunicorn would make it."""
    method, path, body = asked
    data = json.dumps(body).encode()
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(data)),
        "HTTP_HOST": "127.0.0.1:8080",
        "HTTP_ACCEPT": "*/*",
        "HTTP_USER_AGENT": "bench",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(data),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def through(app: Flask, expected: str = "202") -> Callable[[dict[str, Any]], None]:
    """Send a request through the application; any other status is an error."""

    def start(status: str, _headers: object, _error: object = None) -> Any:
        if not status.startswith(expected):
            raise AssertionError(status)

    def send(environ: dict[str, Any]) -> None:
        answer = app.wsgi_app(environ, start)
        b"".join(answer)
        answer.close()  # type: ignore[attr-defined]

    return send
