"""Yardsticks of the real servers: each does what ours does and no more, as fast as it goes."""

import http.client
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import requests

from backends.store.dynamodb_model import bind, item
from coupon.domain.model import Coupon
from coupon.domain.serialization import dump
from tests.bench.place import Place
from tests.e2e.deployment import ROOT, eventually, free_port

TRANSACTION, IN_FLIGHT = 100, 5


@contextmanager
def bare_web(place: Place) -> Iterator[str]:
    """The address of an empty Flask view, behind gunicorn as ``conf/`` has it."""
    port, folder = free_port(), place.new_folder()
    command = [sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", "tests.bench.bare_app:app"]
    environ = place.embedded() | {"PORT": str(port)}
    with (folder / "bare.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/"
    try:
        eventually(lambda: requests.get(url, timeout=5).status_code == 200, 30, requests.ConnectionError)
        yield url
    finally:
        process.terminate()
        process.wait(20)


class Emulator:
    """DynamoDB Local, told what to write in requests that are ready to be sent: five threads, transactions of a hundred
    writes, each on condition. What it makes of them is the ceiling of everything that writes to it."""

    def __init__(self, dynamodb: str) -> None:
        self._address = dynamodb
        self._table = f"bare{uuid.uuid4().hex[:8]}"
        keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        bind(self._table, host=f"http://{dynamodb}", region="local", **keys).create_table(wait=True)

    def writes_a_second(self, coupons: Sequence[Coupon]) -> float:
        """Of these coupons: created when their revision is 1, else changed."""
        bodies = [
            self._transaction(coupons[first : first + TRANSACTION]) for first in range(0, len(coupons), TRANSACTION)
        ]
        began = time.monotonic()
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            list(pool.map(self._send, (bodies[number::IN_FLIGHT] for number in range(IN_FLIGHT))))
        return len(coupons) / (time.monotonic() - began)

    def _transaction(self, coupons: Sequence[Coupon]) -> bytes:
        writes = [{"Put": {"TableName": self._table, "Item": item(coupon), **_condition(coupon)}} for coupon in coupons]
        return dump({"TransactItems": writes})

    def _send(self, bodies: Sequence[bytes]) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        for body in bodies:
            connection.request("POST", "/", body, HEADERS)
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200, content
        connection.close()


def _condition(coupon: Coupon) -> dict[str, Any]:
    if coupon.revision == 1:
        return {"ConditionExpression": "attribute_not_exists(couponCode)"}
    read = {":read": {"N": str(coupon.revision - 1)}}
    return {"ConditionExpression": "revision = :read", "ExpressionAttributeValues": read}


HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "DynamoDB_20120810.TransactWriteItems",
    "X-Amz-Date": "20260101T000000Z",
    "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/local/dynamodb/aws4_request, "
    "SignedHeaders=host, Signature=none",
}
"""The emulator looks at the region and the key, and at no signature."""
