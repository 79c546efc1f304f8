"""The index: how it is mapped and made, and what it keeps."""

import secrets
import subprocess
import sys
from contextlib import closing

import pytest

from backends.search import elasticsearch_index
from backends.testing.coupons import changed, some_coupons
from backends.testing.search import CALLS, SearchContract, held, holds, opened
from backends.testing.timing import until
from coupon.domain.errors import BackendUnavailable
from coupon.ports.search import Query
from tests.contracts.test_search import drop

pytestmark = [
    pytest.mark.services,
    pytest.mark.usefixtures("elasticsearch_refreshes_soon", "rebuilds_begin_soon"),
]


def test_it_is_mapped_as_the_queries_need_it(search, raw, index):
    [(name, found)] = raw.indices.get(index=index).body.items()
    assert name != index
    fields = {field: how["type"] for field, how in found["mappings"].pop("properties").items()}
    assert fields.pop("couponCode") == fields.pop("userId") == "keyword"
    assert fields.pop("issued") == fields.pop("used") == "boolean"
    assert fields.pop("version") == "long"
    assert fields.keys() == {"validFrom", "expireAt", "issuedAt", "usedAt", "createdAt", "modifiedAt"}
    assert set(fields.values()) == {"date"}
    assert found["mappings"] == {"dynamic": "false"}
    settings = found["settings"]["index"]
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == ("1", "0")


def test_init_makes_a_later_field_known_to_an_index_that_is_there(search, raw, index, monkeypatch):
    coupons = held(some_coupons(1), "ann")
    search.index_many(coupons)
    monkeypatch.setitem(elasticsearch_index.PROPERTIES, "tier", {"type": "keyword"})
    search.create()
    search.create()
    [found] = raw.indices.get_mapping(index=index).body.values()
    assert found["mappings"]["properties"]["tier"] == {"type": "keyword"}
    holds(search, coupons)


def test_as_it_is_made_what_was_indexed_is_found_within_two_seconds(services):
    index = f"as-made-{secrets.token_hex(6)}"  # none of those that are refreshed sooner
    with closing(opened(f"elasticsearch://{services.elasticsearch}?index={index}&timeout_s=10")) as search:
        search.create()
        SearchContract().test_what_was_indexed_is_found_within_two_seconds(search)
    drop(services.elasticsearch, index)


def test_shards_and_replicas_are_set_by_the_address(url, raw, index):
    coupons = some_coupons(50)
    with closing(opened(f"{url}&shards=2&replicas=1")) as search:
        search.create()
        search.index_many(coupons)
        holds(search, coupons)
    [found] = raw.indices.get(index=index).body.values()
    settings = found["settings"]["index"]
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == ("2", "1")


def test_of_several_nodes_one_that_is_away_is_not_missed(services, index):
    with closing(opened(f"elasticsearch://127.0.0.1:9,{services.elasticsearch}?index={index}&timeout_s=10")) as search:
        coupons = some_coupons(10)
        search.create()
        for coupon in coupons:
            search.index_many([coupon])
            search.find(Query(), 10)
        holds(search, coupons)


def test_nothing_makes_an_index_by_the_way(url, raw, index):
    with closing(opened(url)) as search:
        for method in ("ping", "find", "index_many"):
            with pytest.raises(BackendUnavailable, match="coupon init"):
                CALLS[method](search)
    assert raw.indices.get(index=f"{index}*") == {}


def test_who_only_asks_and_indexes_does_not_load_dsl(url, search):
    lines = [
        "import sys, backends.testing.search as t",
        f"s = t.opened({url!r})",
        "s.index_many(t.some_coupons(3)); s.find(t.Query('ann'), 10); s.close()",
        "print('elasticsearch.dsl' in sys.modules)",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_field_of_a_later_version_is_kept_and_returned(search, raw, index):
    [coupon] = some_coupons(1)
    search.index_many([changed(coupon, "ann")])
    until(lambda: bool(search.find(Query("ann"), 10)))
    [document] = search.find(Query("ann"), 10)
    raw.index(index=index, id=coupon.code, document=document | {"tier": "gold"}, refresh=True)
    assert search.find(Query("ann"), 10) == [document | {"tier": "gold"}]
