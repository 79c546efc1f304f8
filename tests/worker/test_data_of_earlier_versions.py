"""Data folders and waiting commands as earlier commits wrote them are migrated, read, and applied as there."""

import json
import shutil
from pathlib import Path

import pytest

from backends.store.memory import MemoryStore
from coupon.acceptance.operations import CreationRef
from coupon.acceptance.requests import Caller
from coupon.acceptance.service import CommandService
from coupon.bulk.upgraded_queue import settle
from coupon.domain.model import Kind
from coupon.domain.topics import OUTBOX, all_topics, command_topics
from coupon.runtime import settings
from coupon.runtime.keyring import keys_of
from coupon.runtime.wiring import open_backends
from coupon.worker.worker import Worker, join
from tests.worker.restored import restore

DATA = Path(__file__).parents[1] / "data"
FOLDERS = [f"{commit}/{layout}" for commit in ("511aa48", "5e5169b") for layout in ("single", "per-command")]
ROLES = ("CACHE", "QUEUE", "STORE", "SEARCH")


@pytest.fixture(params=FOLDERS)
def folder(request):
    return DATA / request.param


@pytest.fixture
def layout(folder):
    return folder.name


@pytest.fixture
def expected(folder):
    return json.loads((folder / "expected.json").read_text())


@pytest.fixture
def house(folder, layout, tmp_path):
    """(settings, backends) on a copy of the folder."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "none.env").touch()
    urls = {f"COUPON_{role}_URL": f"sqlite:///{tmp_path}/{role.lower()}.db" for role in ROLES}
    urls["COUPON_QUEUE_URL"] += "?retention_s=1e9"
    loaded = settings.load(
        {
            **urls,
            "COUPON_CONF": str(tmp_path / "none.env"),
            "COUPON_SECRET": "a secret for tests only",
            "COUPON_TOPICS": layout,
            "COUPON_HEARTBEAT_FILE": str(tmp_path / "beat"),
            "COUPON_LOG_LEVEL": "error",
        }
    )
    backends = open_backends(loaded)
    backends.store.create()
    backends.search.create()
    backends.queue.create(all_topics(layout))
    settle(backends.queue, backends.store, keys_of(loaded.secret, []))
    yield loaded, backends
    backends.close()


@pytest.fixture
def drained(house, layout):
    loaded, backends = house
    worker = Worker(backends, loaded, join(backends, loaded))
    topics = [*command_topics(layout), *OUTBOX]
    for _ in range(300):
        worker.run_once(0.02)
        if backends.queue.lag(topics, "worker") == 0:
            return CommandService(backends, loaded), backends
    raise AssertionError(f"{backends.queue.lag(topics, 'worker')} messages are left")


def test_every_coupon_becomes_what_it_would_have_become(drained, expected):
    _, backends = drained
    agrees(backends.store, expected)


def test_the_queue_alone_makes_every_coupon_what_it_would_have_become(drained, house, expected):
    loaded, backends = house
    store = MemoryStore()
    assert restore(backends, loaded, store).left == 0
    agrees(store, expected)


def contents(store):
    """What the coupons are."""
    found = {}
    for coupon in store.scan(1_000).coupons:
        found[coupon.code] = {
            "userId": coupon.user_id,
            "used": coupon.used,
            "version": coupon.version,
            "validFrom": coupon.valid_from,
            "expireAt": coupon.expire_at,
            "batch": coupon.creation_size,
            "history": [[e.operation, str(e.kind), e.at, e.user_id, e.actor] for e in coupon.history],
            "rejections": sorted([r.operation, str(r.reason)] for r in coupon.rejections),
            "settled": coupon.settled,
            "numbers": [entry.number for entry in coupon.history],
        }
    return found


def agrees(store, expected):
    """The coupons are what was expected, as far as the earlier version knew."""
    found, coupons = contents(store), with_sorted_rejections(expected)
    assert found.keys() == coupons.keys()
    for code, coupon in coupons.items():
        assert {name: found[code][name] for name in coupon} == coupon


def with_sorted_rejections(expected):
    for coupon in expected["coupons"].values():
        coupon["rejections"].sort()
    return expected["coupons"]


def test_every_address_that_was_given_is_answered(drained, expected):
    service, _ = drained
    for answer in expected["told"]:
        address = service.operations.parse(answer["address"])
        assert service.operations.outcome(address).status == answer["status"], answer


def test_commands_go_on_from_there_and_their_ids_are_told_in_the_history(drained, expected):
    service, backends = drained
    for answer in expected["told"]:
        address = service.operations.parse(answer["address"])
        if isinstance(address, CreationRef):
            continue
        (coupon,) = backends.store.get_many([address.code]).values()
        for version in range(1, coupon.version + 1):
            known = service.operations.parse(service.operations.of_entry(coupon, version))
            assert service.operations.outcome(known).status == "applied"
    code = next(code for code, coupon in expected["coupons"].items() if not coupon["userId"])
    service.change(Kind.ISSUE, code, "zoe", Caller("anonymous"))


def test_a_key_that_was_used_before_is_recognised(drained, expected):
    service, _ = drained
    answer = next(t for t in expected["told"] if t["kind"] == "issue" and t["userId"] == "ann")
    again = service.change(Kind.ISSUE, answer["code"], "ann", Caller("anonymous", "order-1"))
    assert again.operation == answer["operation"]
