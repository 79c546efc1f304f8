"""``coupon restore`` as an operator uses it: a real process, on SQLite files."""

import json
import sqlite3

import pytest

from coupon.domain.model import Kind
from coupon.domain.topics import all_topics
from coupon.ports.search import Query
from coupon.runtime import settings
from coupon.runtime.heartbeat import STALE_S
from coupon.runtime.wiring import open_backends
from tests.e2e.deployment import Deployment, embedded
from tests.worker.conftest import World
from tests.worker.restored import coupons_of


@pytest.fixture
def cli(tmp_path):
    """The CLI of a service that has seen some traffic, and stands still."""
    deployment = Deployment(embedded(tmp_path))
    deployment.coupon("init")
    with_a_world(deployment, traffic)
    (tmp_path / "worker.heartbeat").unlink()
    for file in tmp_path.glob("cache.db*"):
        file.unlink()
    return deployment


def with_a_world(cli, use):
    loaded = settings.load(cli.environ)
    backends = open_backends(loaded)
    try:
        for backend in (backends.store, backends.search):
            backend.create()
        backends.queue.create(all_topics(loaded.topics))
        return use(World(loaded, backends))
    finally:
        backends.close()


def traffic(world):
    for code in world.coupons(50):
        world.change(Kind.ISSUE, code, "ann")
    world.drain()


def without_revisions(world):
    return {code: coupon._replace(revision=0) for code, coupon in coupons_of(world.backends.store).items()}


def lose_the_store(cli):
    for file in [*cli.folder.glob("store.db*"), *cli.folder.glob("search.db*")]:
        file.unlink()
    cli.coupon("init")


def trim_the_queue(cli):
    with sqlite3.connect(cli.folder / "queue.db") as db:
        db.execute("DELETE FROM messages WHERE offset < 1")
        db.execute("UPDATE partitions SET first = 1 WHERE next > 1")


def refused(ran, words):
    assert ran.returncode == 1
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_lost_store_is_recreated_with_its_index(cli):
    before = with_a_world(cli, without_revisions)
    lose_the_store(cli)
    report = json.loads(cli.coupon("restore", "--json").stdout)
    assert {name: report[name] for name in ("coupons", "applied", "rejected", "recognised", "left", "indexed")} == {
        "coupons": 50,
        "applied": 50,
        "rejected": 0,
        "recognised": 0,
        "left": 0,
        "indexed": 50,
    }
    assert with_a_world(cli, without_revisions) == before
    assert len(with_a_world(cli, lambda world: world.backends.search.find(Query(user_id="ann"), 100, ""))) == 50
    assert "50 recognised" in cli.coupon("restore").stdout


def test_while_a_worker_lives_it_is_refused(cli):
    (cli.folder / "worker.heartbeat").touch()
    refused(cli.coupon("restore", check=False), f"in the last {STALE_S} s: stop the web side and all workers")
    assert "50 recognised" in cli.coupon("restore", "--force").stdout


def test_where_the_queue_does_not_reach_back_a_backup_is_asked_for(cli):
    trim_the_queue(cli)
    ran = cli.coupon("restore", check=False)
    refused(ran, "the queue does not keep the oldest messages any more (of commands")
    instant = ran.stderr.split("a backup of ")[1].split(" ")[0]
    refused(cli.coupon("restore", "--backup-from", "2020-01-01T00:00:00Z", check=False), f"a backup of {instant} or")
    assert "recognised" in cli.coupon("restore", "--backup-from", instant).stdout
    lose_the_store(cli)
    refused(cli.coupon("restore", "--backup-from", instant, check=False), "and the store is empty")


def test_what_is_left_over_is_named_and_the_exit_status_tells(cli):
    cli.environ["COUPON_SECRET"] = "another secret, for tests only"
    lose_the_store(cli)
    ran = cli.coupon("restore", check=False)
    assert ran.returncode == 1
    assert "51 messages are not signed with a key of ours, and were left out" in ran.stderr


@pytest.mark.parametrize("instant", ["yesterday", "2026-11-22T15:40:43"])
def test_an_instant_has_a_day_a_time_and_a_zone(cli, instant):
    ran = cli.coupon("restore", "--backup-from", instant, check=False)
    assert ran.returncode == 2
    assert "2026-11-22T15:40:43Z" in ran.stderr


def test_no_backup_was_taken_in_the_future(cli):
    ran = cli.coupon("restore", "--backup-from", "2999-01-01T00:00:00Z", check=False)
    assert ran.returncode == 2
    assert "is in the future" in ran.stderr
