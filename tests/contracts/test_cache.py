"""The three caches under the contract, and what only one of them promises."""

import secrets
import sqlite3
from contextlib import closing

import pytest

from backends.cache.memory import MemoryCache
from backends.cache.sqlite import PRUNE_EVERY, PRUNED_AT_ONCE, SqliteCache
from backends.testing.cache import CacheContract, CacheOnAClock
from backends.testing.cache_rivals import CacheAcrossProcesses, open_cache, token_of, value_of
from coupon.domain.errors import BackendUnavailable, ConfigurationError
from tests.contracts.private_server import free_port


class TestMemoryCache(CacheOnAClock, CacheContract):
    @pytest.fixture
    def url(self):
        return "memory://"

    @pytest.fixture
    def gone_url(self):
        return "memory://"

    @pytest.fixture
    def gone(self):
        cache = open_cache("memory://")
        cache.close()
        return cache

    @pytest.fixture
    def timed(self, clock):
        return MemoryCache(clock)

    def test_each_instance_is_a_cache_of_its_own(self, cache):
        cache.put("k", b"v", 60)
        assert open_cache("memory://").get("k") is None

    def test_what_has_expired_takes_no_memory_for_long(self, timed, clock):
        for number in range(1_000):
            timed.put(f"old-{number}", b"v", 10)
        clock.now += 10
        for number in range(1_000):
            timed.put(f"new-{number}", b"v", 10)
        assert set(timed.held_keys()) == {f"new-{number}" for number in range(1_000)}


class TestSqliteCache(CacheOnAClock, CacheAcrossProcesses, CacheContract):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/cache.db"

    @pytest.fixture
    def gone_url(self, tmp_path):
        (tmp_path / "file").touch()
        return f"sqlite:///{tmp_path}/file/cache.db"

    @pytest.fixture
    def timed(self, clock, tmp_path):
        cache = SqliteCache(str(tmp_path / "timed.db"), timer=clock)
        yield cache
        cache.close()

    @pytest.mark.parametrize("boot", ["another", ""])
    def test_no_entry_outlives_a_reboot(self, timed, clock, tmp_path, boot):
        """The timer begins again: what had still 50 s to live before may not live until the timer is there again."""
        before = SqliteCache(str(tmp_path / "rebooted.db"), timer=clock, boot=boot and "one")
        before.put("k", b"v", 60)
        token = token_of(before, "k")
        before.close()
        clock.now = 7.0
        after = SqliteCache(str(tmp_path / "rebooted.db"), timer=clock, boot=boot)
        assert after.get("k") is None
        assert not after.replace("k", b"w", token, 60)
        assert not after.remove("k", token)
        assert after.add("k", b"w", 60)
        assert value_of(after, "k") == b"w"
        after.close()

    def test_what_an_earlier_boot_left_is_pruned(self, clock, tmp_path):
        for boot in ("1", "3", "2"):
            cache = SqliteCache(str(tmp_path / "rebooted.db"), timer=clock, boot=boot)
            for number in range(PRUNED_AT_ONCE):
                cache.put(f"{boot}-{number}", b"v", 60)
            cache.close()
        with closing(sqlite3.connect(tmp_path / "rebooted.db")) as file:
            assert file.execute("SELECT DISTINCT boot FROM living").fetchall() == [("2",)]

    def test_a_file_of_an_older_version_is_an_empty_cache(self, clock, tmp_path):
        """511aa48 wrote until when an entry lives by the time of the day, which may have been set back since."""
        with closing(sqlite3.connect(tmp_path / "old.db")) as file:
            file.execute(
                "CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, token INTEGER NOT NULL,"
                " expires_at REAL NOT NULL) STRICT"
            )
            file.execute("INSERT INTO entries VALUES ('k', x'00', 1, 9e12)")
            file.commit()
        cache = SqliteCache(str(tmp_path / "old.db"), timer=clock)
        assert cache.get("k") is None
        assert cache.add("k", b"v", 60)
        cache.close()

    def test_a_token_does_not_fit_an_entry_of_a_new_file(self, cache, tmp_path):
        cache.put("k", b"v", 60)
        stale = token_of(cache, "k")
        for file in tmp_path.glob("cache.db*"):
            file.unlink()
        assert cache.get("k") is None
        cache.put("k", b"v", 60)
        assert not cache.replace("k", b"w", stale, 60)

    def test_it_works_again_when_its_folder_is_back(self, cache, tmp_path):
        cache.put("k", b"v", 60)
        tmp_path.rename(aside := tmp_path.with_name(f"{tmp_path.name}-aside"))
        tmp_path.touch()
        with pytest.raises(BackendUnavailable):
            cache.get("k")
        tmp_path.unlink()
        aside.rename(tmp_path)
        assert cache.get("k") is not None

    def test_what_has_expired_is_pruned_a_few_rows_at_once(self, timed, clock, tmp_path):
        for number in range(3 * PRUNED_AT_ONCE):
            timed.put(f"old-{number}", b"v", 10)
        clock.now += 10
        for left in (2, 1, 0):
            for _ in range(PRUNE_EVERY):
                timed.put("new", b"v", 10)
            with closing(sqlite3.connect(tmp_path / "timed.db")) as file:
                (rows,) = file.execute("SELECT count(*) FROM living").fetchone()
            assert rows == left * PRUNED_AT_ONCE + 1


@pytest.mark.services
class TestMemcachedCache(CacheAcrossProcesses, CacheContract):
    @pytest.fixture
    def url(self, services):
        return f"memcached://{services.memcached}?timeout_s=1&prefix={secrets.token_hex(8)}:"

    @pytest.fixture
    def gone_url(self):
        return f"memcached://127.0.0.1:{free_port()}"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("memory://?size=1", "unknown option 'size'"),
        ("sqlite:///x.db?timeout_s=0", "timeout_s='0'"),
        ("memcached://h:11211?timeout_s=soon", "timeout_s='soon'"),
        ("memcached://h:0", "port '0'"),
        ("memcached://::1:11211", "not a host and port: .*::1:11211"),
        ("memcached://h?prefix=a+b", "prefix='a b'"),
        (f"memcached://h?prefix={'p' * 51}", "prefix='ppp"),
        ("memcached://me:secret@h", "user"),
        ("memcached://h/path", "path"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url, sentence):
    with pytest.raises(ConfigurationError, match=sentence) as refused:
        open_cache(url)
    assert "secret" not in str(refused.value)
