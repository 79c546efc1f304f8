"""There is garbage in every kind of entry of every embedded backend.

Who is not its owner does not notice, and its owner gets an error whose name is documented.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coupon.applying import dead_letters
from coupon.bulk.scan import pages
from coupon.domain.codes import show
from coupon.domain.model import Kind
from coupon.domain.serialization import decode_coupon, dump, encode_command, encode_coupon, fault_of_document
from coupon.domain.topics import all_topics
from coupon.ports.queue import Message
from coupon.web import create_app
from tests.coupons import a_command, a_creation
from tests.worker.conftest import a_world

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=8,
)
BYTES = st.binary(max_size=60) | JSON.map(lambda value: repr(value).encode("utf-8", "surrogatepass"))
VALUES = {
    "TEXT": st.text(max_size=30).filter(lambda text: text.isprintable()) | st.binary(min_size=1, max_size=20),
    "INTEGER": st.integers(-(2**63), 2**63 - 1),
    "BLOB": BYTES,
}
COMMANDS = [
    json.loads(encode_command(command))
    for command in (a_command(Kind.USE, "u"), a_command(Kind.ISSUE, "i"), a_creation())
]
MUTATED = st.tuples(st.sampled_from(COMMANDS), JSON, st.integers(0, 20))
KNOWN = {202, 200, 404, 409, 503}
NAMED = {"UNREADABLE", "BUSY", "UNAVAILABLE", "NOT_FOUND", "ALREADY_ISSUED", "ALREADY_USED", "NOT_ISSUED", "RIVAL_WON"}


def mutated(choice):
    """A message of ours with one field that is something else."""
    body, value, place = choice
    name = list(body)[place % len(body)]
    try:
        return dump(body | {name: value})
    except ValueError:  # half a character
        return b"{"


MESSAGES = BYTES | MUTATED.map(mutated) | JSON.map(lambda value: repr(value).encode("utf-8", "surrogatepass"))


def columns(path, table):
    with closing(sqlite3.connect(path)) as file:
        return {row[1]: row[2] for row in file.execute(f"PRAGMA table_info({table})")}


def spoil(path, table, key, column, value):
    """Set a column of all rows with that key, past the backend; what the table itself refuses is left as it was."""
    expression = "CAST(? AS TEXT)" if isinstance(value, bytes) and columns(path, table)[column] == "TEXT" else "?"
    name = next(iter(columns(path, table)))
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"UPDATE OR IGNORE {table} SET {column} = {expression} WHERE {name} LIKE ?", (value, key))
        file.commit()


@pytest.mark.logs_error("dead letter", "unreadable", "partition left alone", "document refused")
@pytest.mark.parametrize("planted", ["store", "search", "cache", "queue"])
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_garbage_is_named_and_stops_nothing_else(planted, data):
    with TemporaryDirectory() as folder:
        environ = {
            "COUPON_CONF": "conf/test.env",
            "COUPON_HEARTBEAT_FILE": f"{folder}/beat",
            "COUPON_LOG_LEVEL": "error",
        }
        environ |= {
            f"COUPON_{role}_URL": f"sqlite:///{folder}/{role.lower()}.db"
            for role in ("STORE", "SEARCH", "CACHE", "QUEUE")
        }
        for world in a_world(environ):
            live(world, Path(folder), planted, data)


def live(world, folder, planted, data):
    spoilt, other, third = world.coupons(3)
    api = create_app(world.settings, world.backends, lambda: world.now).test_client()

    def send(kind, code, **fields):
        return api.put(f"/v1/coupons/{kind}", json={"couponCode": show(code)} | fields)

    for code in (spoilt, other):
        assert send("issue", code, userId="ann").status_code == 202
    world.drain()
    plant(world, folder, planted, spoilt, data)
    for answer in (
        api.get(f"/v1/coupons/{show(spoilt)}"),
        send("use", spoilt),
        api.get("/v1/users/ann/coupons"),
        api.get("/v1/coupons/expired/today"),
        api.get("/readyz"),
    ):
        assert answer.status_code in KNOWN or answer.json["code"] in NAMED, answer.json
    if send("use", other).status_code == 503:  # its entry was among those: the workers have to catch up
        world.drain()
        assert send("use", other).status_code == 202
    assert send("issue", third, userId="ann").status_code in (202, 503)
    world.drain()
    world.drain()
    assert api.get(f"/v1/coupons/{show(other)}").json["used"]
    held = api.get("/v1/users/ann/coupons")
    assert show(other) in [item["couponCode"] for item in held.json["items"]]
    reported = []
    coupons = [coupon for page in pages(world.backends.store, reported.append) for coupon in page]
    assert {coupon.code for coupon in coupons} >= {other, third}
    assert [decode_coupon(encode_coupon(coupon)) for coupon in coupons] == coupons
    shown = [item | {"couponCode": item["couponCode"].replace("-", "")} for item in held.json["items"]]
    assert [fault_of_document(item) for item in shown] == [None] * len(shown)
    list(dead_letters.browse(world.backends.queue))
    world.look(world.worker)
    world.look(world.worker)  # until what needs a coupon that never comes is dead-lettered
    assert world.lag() == 0


def plant(world, folder, planted, code, data):
    if planted == "queue":
        topics = st.sampled_from(all_topics(world.settings.topics))
        for topic, value in data.draw(st.lists(st.tuples(topics, MESSAGES), min_size=1, max_size=4)):
            world.backends.queue.publish([Message(topic, code, value)])
        return
    if planted == "cache":
        with closing(sqlite3.connect(folder / "cache.db")) as file:
            keys = [key for (key,) in file.execute("SELECT key FROM living")]
        for place in data.draw(st.lists(st.integers(0, 99), min_size=1, max_size=4)):  # whatever there is by now
            key = keys[place % len(keys)]
            world.backends.cache.put(key, data.draw(BYTES | st.sampled_from([b"P", b"C", b"F", b""])), 60)
        return
    table = {"store": "coupons", "search": "documents"}[planted]
    kinds = columns(folder / f"{planted}.db", table)
    for column in data.draw(st.lists(st.sampled_from(list(kinds)[1:]), min_size=1, max_size=4)):
        spoil(folder / f"{planted}.db", table, code, column, data.draw(VALUES[kinds[column]]))
