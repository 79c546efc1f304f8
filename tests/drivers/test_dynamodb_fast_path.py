"""What a request costs less, and that a driver without the hooks is used as it is, with one warning."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from backends.store import dynamodb_fixes
from backends.store.dynamodb_fixes import limit_answers
from backends.store.dynamodb_model import item
from backends.testing.coupons import a_full_coupon
from backends.testing.store import opened
from coupon.domain import serialization as wire
from coupon.domain.model import Coupon

SLOW = "DynamoDB without the fast path"


class Table(http.server.ThreadingHTTPServer):
    """Answers every request with one coupon, and remembers what came."""

    daemon_threads = True

    def __init__(self, coupon: Coupon) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.item = item(coupon)
        self.bodies: list[dict[str, Any]] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Table

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        [table] = self.server.bodies[-1]["RequestItems"]
        answer = wire.dump({"Responses": {table: [self.server.item]}, "UnprocessedKeys": {}})
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def coupon() -> Coupon:
    return a_full_coupon()


@pytest.fixture
def table(coupon: Coupon) -> Iterator[Table]:
    with Table(coupon) as table:
        thread = threading.Thread(target=table.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield table
        table.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "eu-west-1")


def read(table: Table, coupon: Coupon) -> tuple[list[str], Coupon, dict[str, Any]]:
    """Which warnings there were, what was read, and what was sent for it."""
    with capture_logs() as logs, closing(opened(f"dynamodb://127.0.0.1:{table.server_port}?table=coupons")) as store:
        for _ in range(3):
            found = store.get_many([coupon.code])[coupon.code]
    return [each["event"] for each in logs if each["log_level"] == "warning"], found, table.bodies[-1]


def test_the_driver_takes_the_fast_path(table: Table, coupon: Coupon) -> None:
    warnings, found, _ = read(table, coupon)
    assert found == coupon
    assert warnings == []


def test_no_probe_reaches_the_table(table: Table, coupon: Coupon) -> None:
    read(table, coupon)
    assert len(table.bodies) == 3


@pytest.mark.parametrize("hook", ["_set_aside", "_write_json", "_read_json"])
def test_without_one_of_its_hooks_the_driver_does_the_work_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, table: Table, coupon: Coupon, hook: str
) -> None:
    _, _, sent_fast = read(table, coupon)
    monkeypatch.setattr(dynamodb_fixes, hook, lambda **_: None)
    warnings, found, sent = read(table, coupon)
    assert warnings == [SLOW]
    assert found == coupon
    assert sent == sent_fast


def test_a_driver_without_the_private_names_keeps_its_own_timeouts_with_one_warning() -> None:
    with capture_logs() as logs:
        limit_answers(SimpleNamespace())
    assert [each["event"] for each in logs] == ["DynamoDB with the driver's own timeouts"]
