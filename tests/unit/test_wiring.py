import pytest

from coupon.ports.cache import Cache
from coupon.ports.queue import Queue
from coupon.ports.search import Search
from coupon.ports.store import Store
from coupon.ports.url import ConfigurationError
from coupon.runtime import wiring

ROLES = {"cache": Cache, "queue": Queue, "store": Store, "search": Search}


@pytest.mark.parametrize(("role", "scheme"), [(role, s) for role, schemes in wiring.BUILT_IN.items() for s in schemes])
def test_a_scheme_chooses_its_backend_and_nothing_is_opened(role, scheme, tmp_path):
    place = f"/{tmp_path}/x.db" if scheme == "sqlite" else "" if scheme == "memory" else "127.0.0.1:1"
    backend = wiring.open_backend(ROLES[role], f"{scheme}://{place}")
    assert isinstance(backend, ROLES[role])
    assert list(tmp_path.iterdir()) == []
    backend.close()


@pytest.mark.parametrize("role", list(ROLES))
def test_an_unknown_scheme_is_named_with_the_known_ones(role):
    with pytest.raises(ConfigurationError, match=rf"COUPON_{role.upper()}_URL=ftp://h/: .*'ftp'.*memory://"):
        wiring.open_backend(ROLES[role], "ftp://h")


def test_a_wrong_option_names_the_setting():
    with pytest.raises(ConfigurationError, match=r"COUPON_CACHE_URL.*'sizee'"):
        wiring.open_backend(Cache, "memory://?sizee=1")


def test_a_missing_driver_names_what_to_install(monkeypatch):
    monkeypatch.setitem(wiring.BUILT_IN["store"], "cassandra", "backends.store.cassandra:CassandraStore")
    with pytest.raises(ConfigurationError, match="driver is missing"):
        wiring.open_backend(Store, "cassandra://h")


def test_a_backend_of_another_role_is_refused(monkeypatch):
    monkeypatch.setitem(wiring.BUILT_IN["store"], "wrong", "backends.cache.memory:MemoryCache")
    with pytest.raises(ConfigurationError, match="MemoryCache is not a Store"):
        wiring.open_backend(Store, "wrong://")
