"""Figures of one run on the real servers: ``python -m tests.e2e.figures [--rows 100000]``.

Creates 10,000, imports a generated CSV, then issues, uses, cancels and queries; prints seconds until all are in
DynamoDB and in Elasticsearch, rows a second, the memory of each process, and beside them what the emulator itself
makes of the same writes (bare conditional transactions of 100, two at a time, the same item).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.session
import requests

from coupon.ports.queue import Queue
from coupon.topics import OWED
from coupon.wiring import open_backend
from tests.coupons import a_coupon
from tests.e2e.deployment import ROOT, Deployment, children, eventually, on_services, rss_mb

CLIENTS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    ports = {"kafka": 9092, "dynamodb": 8000, "elasticsearch": 9200, "memcached": 11211}
    services = SimpleNamespace(
        **{name: f"127.0.0.1:{os.environ.get(f'{name.upper()}_PORT', port)}" for name, port in ports.items()}
    )
    with tempfile.TemporaryDirectory() as folder:
        print(f"emulator's own maximum: {emulator(services.dynamodb, 20_000):,.0f} conditional writes/s")
        environ = on_services(Path(folder), services)
        with Deployment(environ, workers=1) as service:
            report(service, environ, services, Path(folder), rows)
        print(f"emulator's own maximum: {emulator(services.dynamodb, 20_000):,.0f} conditional writes/s (again, after)")


def report(service: Deployment, environ: dict[str, str], services: Any, folder: Path, rows: int) -> None:
    index = environ["COUPON_SEARCH_URL"].rpartition("index=")[2]
    started = time.monotonic()
    codes = service.create(10_000)
    stored_s = time.monotonic() - started
    eventually(lambda: documents(services.elasticsearch, index) >= 10_000, 120, KeyError)
    print(f"create 10,000: in DynamoDB after {stored_s:.1f} s, searchable after {time.monotonic() - started:.1f} s")
    memory(service, "after creating 10,000")

    file = folder / "coupons.csv"
    with file.open("wb") as out:
        subprocess.run([sys.executable, "conf/generate_coupons.py", str(rows)], cwd=ROOT, stdout=out, check=True)
    started = time.monotonic()
    importing = service.coupon("import", str(file), timeout=1200)
    stored_s = time.monotonic() - started
    eventually(lambda: documents(services.elasticsearch, index) >= 10_000 + rows, 300)
    print(f"import {rows:,}: in DynamoDB after {stored_s:.1f} s ({rows / stored_s:,.0f} rows/s),", end=" ")
    print(f"searchable after {time.monotonic() - started:.1f} s; said: {importing.stdout.strip()}")
    memory(service, "after the import")

    for command in ("issue", "use", "cancel-use", "cancel", "issue"):
        started = time.monotonic()
        everyone(service, command, codes)
        accepted_s = time.monotonic() - started
        eventually(lambda: drained(service), 600)
        applied_s = time.monotonic() - started
        print(f"{command} {len(codes):,}: accepted at {len(codes) / accepted_s:,.0f}/s,", end=" ")
        print(f"all applied after {applied_s:.1f} s ({len(codes) / applied_s:,.0f}/s)")
    started = time.monotonic()
    for _ in range(500):
        assert service.get("/v1/users/user1/coupons?limit=5").status_code == 200
    print(f"query, one client: {500 / (time.monotonic() - started):,.0f}/s")
    memory(service, "at the end")


def everyone(service: Deployment, command: str, codes: list[str]) -> None:
    def client(number: int) -> None:
        with requests.Session() as session:
            for code in codes[number::CLIENTS]:
                body = {"couponCode": code} | ({"userId": f"user{number}"} if command == "issue" else {})
                while (answer := service.put(command, session, **body)).status_code != 202:
                    assert answer.status_code == 503, answer.text

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))


def drained(service: Deployment) -> bool:
    """Whether the worker has nothing left in the queue."""
    queue = open_backend(Queue, service.environ["COUPON_QUEUE_URL"])  # type: ignore[type-abstract]
    try:
        return queue.lag(["commands", *OWED], "worker") == 0
    finally:
        queue.close()


def documents(elasticsearch: str, index: str) -> int:
    return int(requests.get(f"http://{elasticsearch}/{index}/_count", timeout=5).json()["count"])


def memory(service: Deployment, when: str) -> None:
    assert service.web is not None
    web = " ".join(f"{rss_mb(pid):.0f}" for pid in children(service.web.pid))
    workers = " ".join(f"{rss_mb(worker.pid):.0f}" for worker in service.workers)
    print(f"memory {when}: web {web} MB (master {rss_mb(service.web.pid):.0f}), worker {workers} MB")


def emulator(dynamodb: str, items: int) -> float:
    """Conditional writes a second of bare transactions of 100, two at a time, of coupon-sized items."""
    client = botocore.session.get_session().create_client(
        "dynamodb",
        region_name="local",
        endpoint_url=f"http://{dynamodb}",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    table = f"bare{uuid.uuid4().hex[:8]}"
    client.create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": "couponCode", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "couponCode", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )

    def batches() -> Iterator[list[dict[str, Any]]]:
        for start in range(0, items, 100):
            yield [put(table, f"{uuid.uuid4().hex[:19]}".upper()) for _ in range(start, start + 100)]

    prepared = list(batches())
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda batch: client.transact_write_items(TransactItems=batch), prepared))
    taken = time.monotonic() - started
    client.delete_table(TableName=table)
    return items / taken


def put(table: str, code: str) -> dict[str, Any]:
    coupon = a_coupon(code)
    item = {
        "couponCode": {"S": code},
        "used": {"BOOL": False},
        "issued": {"BOOL": False},
        "validFrom": {"S": coupon.valid_from},
        "expireAt": {"S": coupon.expire_at},
        "createdAt": {"N": str(coupon.created_at)},
        "modifiedAt": {"N": str(coupon.modified_at)},
        "version": {"N": "1"},
        "revision": {"N": "1"},
        "batch": {"N": "10000"},
        "history": {"S": '[["abcdefghij0123456789","create",1795000000000,null,"anonymous"]]'},
    }
    return {"Put": {"TableName": table, "Item": item, "ConditionExpression": "attribute_not_exists(couponCode)"}}


if __name__ == "__main__":
    main()
