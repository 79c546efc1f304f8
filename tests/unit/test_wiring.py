import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from coupon.domain.errors import ConfigurationError
from coupon.ports.cache import Cache
from coupon.ports.queue import Queue
from coupon.ports.search import Search
from coupon.ports.store import Store
from coupon.runtime import wiring
from coupon.runtime.settings import load

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


def test_a_missing_driver_of_an_extra_names_the_extra(monkeypatch):
    for module in [name for name in sys.modules if name.startswith("backends.search.mongodb")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pymongo", None)
    with pytest.raises(ConfigurationError, match=r"run: pip install 'coupon\[mongodb\]'"):
        wiring.open_backend(Search, "mongodb://h")


def test_a_plugin_that_cannot_be_loaded_is_named(monkeypatch):
    point = EntryPoint("cassandra", "my_plugin.cassandra:CassandraStore", "coupon.store")
    monkeypatch.setattr(wiring, "entry_points", lambda group: [point])
    with pytest.raises(ConfigurationError, match=r"my_plugin\.cassandra:CassandraStore cannot be loaded"):
        wiring.open_backend(Store, "cassandra://h")


@pytest.mark.parametrize(
    ("queue", "accepted"), [("sqlite:////q.db?timeout_s=9", "9"), ("kafka://h?timeout_s=8.5", "8.5")]
)
def test_a_reservation_outlives_a_publish(queue, accepted):
    loaded = replace(load({"COUPON_CONF": "conf/test.env"}), queue_url=queue)
    with pytest.raises(ConfigurationError, match=rf"COUPON_RESERVATION_TTL_S=8 is shorter .* accepted, {accepted}"):
        wiring.open_backends(loaded)
    wiring.open_backends(replace(loaded, reservation_ttl_s=9)).close()


def test_a_backend_of_another_role_is_refused(monkeypatch):
    monkeypatch.setitem(wiring.BUILT_IN["store"], "wrong", "backends.cache.memory:MemoryCache")
    with pytest.raises(ConfigurationError, match="MemoryCache is not a Store"):
        wiring.open_backend(Store, "wrong://")
