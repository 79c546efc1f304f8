"""SQLite files of earlier versions are migrated in place by ``coupon init``, whole or not at all."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from backends.search.sqlite import SqliteSearch
from backends.store.sqlite import SqliteStore
from backends.store.sqlite_migrations import MIGRATIONS
from backends.testing.coupons import some_coupons
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Coupon
from coupon.domain.serialization import decode_history, decode_rejections, document
from coupon.ports.search import Query

DATA = Path(__file__).parents[1] / "data"
FOLDERS = [f"{commit}/{layout}" for commit in ("511aa48", "5e5169b") for layout in ("single", "per-command")]


@pytest.fixture(params=FOLDERS)
def folder(request, tmp_path):
    """A copy of the files."""
    for name in ("store.db", "search.db"):
        shutil.copy(DATA / request.param / name, tmp_path)
    return tmp_path


@pytest.fixture
def store(folder):
    with closing(SqliteStore(str(folder / "store.db"))) as store:
        yield store


def columns_of(path: Path) -> list[Coupon]:
    """The coupons of a store's file with a column a field."""
    with closing(sqlite3.connect(path)) as file:
        found = file.execute("SELECT * FROM coupons").fetchall()
    return [
        Coupon(*row[:11], decode_history(row[11]), decode_rejections(row[12]), (row[13:] or row[9:10])[0])
        for row in found
    ]


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        return file.execute("PRAGMA user_version").fetchone()[0]


def everything(store: SqliteStore) -> list[Coupon]:
    page = store.scan(1_000)
    assert not page.unreadable
    return sorted(page.coupons)


def test_a_start_on_a_file_of_an_earlier_version_says_what_to_do(folder, store):
    with closing(SqliteSearch(str(folder / "search.db"))) as search:
        for ask in (store.ping, lambda: store.get_many(["A" * 19]), search.ping, lambda: search.find(Query(), 1)):
            with pytest.raises(BackendUnavailable, match="run: coupon init"):
                ask()


def test_a_store_that_is_migrated_has_the_same_coupons_and_goes_on(folder, store):
    before = columns_of(folder / "store.db")
    assert len(before) == 10
    store.create()
    store.create()
    assert everything(store) == sorted(before)
    [new] = some_coupons(1)
    changed = before[0]._replace(revision=before[0].revision + 1)
    assert store.save_many([new, changed]) == set()
    assert store.get_many([new.code, changed.code]) == {new.code: new, changed.code: changed}
    assert version_of(folder / "store.db") == len(MIGRATIONS)


def test_what_was_no_coupon_stays_none_and_is_still_seen(folder, store):
    first, second, third, *others = sorted(columns_of(folder / "store.db"))
    with closing(sqlite3.connect(folder / "store.db")) as file:
        file.execute("UPDATE coupons SET history = ? WHERE code = ?", ("[" * 5_000, first.code))
        file.execute("UPDATE coupons SET history = CAST(x'fffe' AS TEXT) WHERE code = ?", (second.code,))
        file.execute("UPDATE coupons SET valid_from = 'yesterday' WHERE code = ?", (third.code,))
        file.commit()
    store.create()
    page = store.scan(100)
    assert page.unreadable.keys() == {first.code, second.code, third.code}
    assert sorted(page.coupons) == others


def test_a_search_that_is_migrated_finds_the_same_and_takes_changes(folder):
    with closing(sqlite3.connect(folder / "search.db")) as file:
        codes = sorted(row[0] for row in file.execute("SELECT couponCode FROM documents"))
    with closing(SqliteSearch(str(folder / "search.db"))) as search:
        search.create()
        search.create()
        assert [found["couponCode"] for found in search.find(Query(), 100)] == codes
        coupons = [coupon._replace(version=100) for coupon in columns_of(folder / "store.db")]
        search.index_many(coupons)
        assert search.find(Query(), 100) == [document(coupon) for coupon in sorted(coupons)]
    with closing(sqlite3.connect(folder / "search.db")) as file:
        [(days,)] = file.execute("SELECT sql FROM sqlite_master WHERE name LIKE 'days%'")
    assert days.endswith("WHERE used = 0")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_migration_that_is_killed_leaves_the_earlier_version_whole(folder, store, moment):
    """Before and after its step, and each time before the commit."""
    before = columns_of(folder / "store.db")
    lines = [
        "import os, signal, sys",
        "from backends.store import sqlite, sqlite_migrations as steps",
        "def killed(connection):",
        "    if sys.argv[2] == 'after': steps.bodies(connection)",
        "    os.kill(os.getpid(), signal.SIGKILL)",
        "sqlite.MIGRATIONS = (killed,)",
        "sqlite.SqliteStore(sys.argv[1]).create()",
    ]
    command = [sys.executable, "-c", "\n".join(lines), str(folder / "store.db"), moment]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with pytest.raises(BackendUnavailable, match="run: coupon init"):
        store.ping()
    assert columns_of(folder / "store.db") == before
    store.create()
    assert everything(store) == sorted(before)


def test_a_reader_that_had_no_answer_goes_on_once_the_file_is_migrated(folder, store):
    with closing(SqliteStore(str(folder / "store.db"))) as other:
        with pytest.raises(BackendUnavailable):
            other.ping()
        store.create()
        assert everything(other) == everything(store)


def test_a_file_of_a_later_version_is_refused(folder, store):
    store.create()
    with closing(sqlite3.connect(folder / "store.db")) as file:
        file.execute("PRAGMA user_version = 99")
    with closing(SqliteStore(str(folder / "store.db"))) as later:
        for ask in (later.create, later.ping):
            with pytest.raises(BackendUnavailable, match="later version"):
                ask()


def test_a_new_file_is_of_this_version(tmp_path):
    with closing(SqliteStore(str(tmp_path / "new.db"))) as store:
        store.ping()
    assert version_of(tmp_path / "new.db") == len(MIGRATIONS)
    assert os.path.getsize(tmp_path / "new.db") > 0
