"""A new field of a coupon costs two edits: of the domain, and of its declaration as a document. All else follows.

The edits are made in a copy of the sources, beside which data of the version before lie.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backends.search.sqlite import SqliteSearch
from backends.store.sqlite import SqliteStore
from backends.testing.coupons import some_coupons

ROOT = Path(__file__).parents[2]
EDITS = {
    "coupon/domain/model.py": (
        "    ahead: int = 0\n",
        "    ahead: int = 0\n    tier: str | None = None\n",
    ),
    "coupon/domain/serialization/documents.py": (
        "    userId: NAME | None\n",
        "    userId: NAME | None\n    tier: NAME | None\n",
    ),
}


@pytest.fixture
def edited(tmp_path):
    """A copy of the sources with the two edits."""
    for name in ("coupon", "backends", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (before, after) in EDITS.items():
        text = (tmp_path / name).read_text()
        assert text.count(before) == 1
        (tmp_path / name).write_text(text.replace(before, after))
    return tmp_path


@pytest.fixture
def before(tmp_path):
    """Data of the version before the edits."""
    coupons = some_coupons(3)
    for kind, name in ((SqliteStore, "store"), (SqliteSearch, "search")):
        backend = kind(str(tmp_path / f"{name}.db"))
        backend.create()
        backend.save_many(coupons) if name == "store" else backend.index_many(coupons)
        backend.close()
    return [coupon.code for coupon in coupons]


SCRIPT = """
import json, sys
from contextlib import closing
from backends.search import elasticsearch_index
from backends.search.memory import MemorySearch
from backends.search.sqlite import SqliteSearch
from backends.store import dynamodb_model
from backends.store.memory import MemoryStore
from backends.store.sqlite import SqliteStore
from backends.testing.coupons import a_full_coupon, changed, some_coupons
from backends.testing.store import opened
from coupon.domain.serialization import completed, document, fault_of_document
from coupon.domain.errors import BackendUnavailable
from coupon.ports.search import Query
from coupon.runtime.settings import load
from coupon.runtime.wiring import Backends, open_backends
from coupon.web import create_app

folder, *codes = sys.argv[1:]
gold = changed(some_coupons(1)[0], "ann")._replace(tier="gold", revision=1)

store = SqliteStore(f"{folder}/store.db")
assert [store.get_many(codes)[code].tier for code in codes] == [None] * 3
for each in (store, MemoryStore()):
    each.create()
    assert each.save_many([gold]) == set()
    assert each.get_many([gold.code]) == {gold.code: gold}
    assert gold in each.scan(10).coupons

search = SqliteSearch(f"{folder}/search.db")
for ask in (lambda: search.find(Query(), 10), lambda: search.index_many([gold])):
    try:
        ask()
    except BackendUnavailable as error:
        assert "coupon init" in str(error)
    else:
        raise AssertionError("a table without the field")
search.create()
assert [found["tier"] for found in search.find(Query(), 10)] == [None] * 3
for each in (search, MemorySearch()):
    each.create()
    each.index_many([gold])
    assert each.find(Query("ann"), 10) == [document(gold)]
    each.index_many([gold._replace(version=3, tier="silver")])
    assert each.find(Query("ann"), 10)[0]["tier"] == "silver"

assert elasticsearch_index.PROPERTIES["tier"] == {"type": "keyword"}
old = {name: value for name, value in document(gold).items() if name != "tier"}
assert fault_of_document(old) is None and completed(old) == document(gold) | {"tier": None}

item = dynamodb_model.item(gold)
assert item["tier"] == {"S": "gold"} and dynamodb_model.coupon(item) == gold
assert dynamodb_model.CouponItem.from_raw_data(item).tier == "gold"
assert dynamodb_model.coupon(dynamodb_model.item(a_full_coupon())).tier is None
del item["tier"]
assert dynamodb_model.coupon(item) == gold._replace(tier=None)

settings = load({"COUPON_CONF": "conf/test.env", "COUPON_LOG_LEVEL": "error"})
memory = open_backends(settings)
client = create_app(settings, Backends(memory.cache, memory.queue, store, search)).test_client()
assert client.get(f"/v1/coupons/{gold.code}").json["tier"] == "gold"
assert client.get("/v1/users/ann/coupons").json["items"][0]["tier"] == "silver"
schema = client.get("/openapi.json").json["components"]["schemas"]["Coupon"]
assert "string" in schema["properties"]["tier"]["type"] and "tier" in schema["required"], schema
print("seen")
"""


def test_a_field_that_is_declared_once_is_seen_through_store_search_and_http(edited, before):
    environ = {**os.environ, "PYTHONPATH": str(edited)}
    command = [sys.executable, "-c", SCRIPT, str(edited), *before]
    done = subprocess.run(command, cwd=edited, env=environ, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("seen\n", 0), done.stderr
