"""What Elasticsearch does to a search: it dies, freezes, comes back, refuses a few of many, loses its answers."""

import json
import secrets
import socket
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from elastic_transport import ConnectionTimeout, HttpHeaders
from elastic_transport._node import NodeApiResponse
from elasticsearch import Elasticsearch

from backends.search import elasticsearch_index
from backends.testing.coupons import changed, some_coupons
from backends.testing.search import CALLS, SearchContract, held, holds, opened, settles
from backends.testing.timing import unavailable_within
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.domain.model import Day
from coupon.ports.search import Query
from tests.contracts.test_search import drop

pytestmark = [
    pytest.mark.services,
    pytest.mark.usefixtures("elasticsearch_refreshes_soon", "rebuilds_begin_soon"),
]


@pytest.fixture
def index(services):
    name = f"test-{secrets.token_hex(6)}"
    yield name
    drop(services.elasticsearch, name)


@pytest.fixture
def url(services, index):
    return f"elasticsearch://{services.elasticsearch}?index={index}&timeout_s=10"


@pytest.fixture
def search(url):
    search = opened(url)
    search.create()
    yield search
    search.close()


@pytest.fixture
def raw(services):
    with Elasticsearch(f"http://{services.elasticsearch}") as client:
        yield client


@pytest.fixture
def edge(search):
    return Edge(search)


class Edge:
    """Stands between the client and the wire: whatever is put there sees each request and what would be answered."""

    def __init__(self, search):
        [self.node] = search._client.transport.node_pool.all()
        self.perform = self.node.perform_request

    def put(self, path, change):
        """``change(ask)`` answers requests to that path; ``ask()`` is what the server answers."""

        def perform(method, target, **rest):
            def ask():
                return self.perform(method, target, **rest)

            return change(ask) if target.partition("?")[0] == path else ask()

        self.node.perform_request = perform

    def clear(self):
        self.node.perform_request = self.perform


def answers(status, body):
    """What a server, or whatever stands before it, says."""

    def change(ask):
        kind = "application/json" if isinstance(body, dict) else "text/html"
        meta = ask().meta
        object.__setattr__(meta, "status", status)
        object.__setattr__(meta, "headers", HttpHeaders({"content-type": kind, "x-elastic-product": "Elasticsearch"}))
        return NodeApiResponse(meta, json.dumps(body).encode() if isinstance(body, dict) else body.encode())

    return change


def item(status, error_type):
    return {"index": {"status": status, "error": {"type": error_type, "reason": "because"}}}


WRITTEN = {"index": {"status": 201}}
OLD = item(409, "version_conflict_engine_exception")
BUSY = item(429, "es_rejected_execution_exception")
AWAY = item(503, "unavailable_shards_exception")
BROKEN = item(500, "illegal_state_exception")
READ_ONLY = item(403, "cluster_block_exception")
FORBIDDEN = item(403, "security_exception")
UNREADABLE = item(400, "document_parsing_exception")
MISSING = item(404, "index_not_found_exception")


@pytest.mark.parametrize(
    ("items", "outcome"),
    [
        ([WRITTEN, OLD], None),
        ([WRITTEN, BUSY], BackendUnavailable),
        ([AWAY, WRITTEN], BackendUnavailable),
        ([WRITTEN, BROKEN], BackendUnavailable),
        ([READ_ONLY, WRITTEN], BackendUnavailable),
        ([MISSING, MISSING], BackendUnavailable),
        ([WRITTEN, UNREADABLE], BackendRejected),
        ([FORBIDDEN, OLD], BackendUnavailable),
        ([UNREADABLE, BUSY], BackendUnavailable),
        ([BUSY, UNREADABLE], BackendUnavailable),
    ],
)
def test_no_document_that_was_refused_among_others_is_passed_over(search, edge, items, outcome):
    edge.put("/_bulk", answers(200, {"errors": True, "items": items}))
    if outcome is None:
        search.index_many(some_coupons(2))
    else:
        with pytest.raises(outcome):
            search.index_many(some_coupons(2))


@pytest.mark.parametrize(
    ("items", "outcome"),
    [
        ([WRITTEN, WRITTEN], None),
        ([WRITTEN, OLD], None),
        ([WRITTEN, MISSING], None),  # the rebuild ended, or was given up
        ([MISSING, WRITTEN], None),  # it ended, and the next generation is the present one
        ([MISSING, MISSING], BackendUnavailable),
        ([WRITTEN, BUSY], BackendUnavailable),
        ([BUSY, WRITTEN], BackendUnavailable),
        ([WRITTEN, UNREADABLE], BackendRejected),
    ],
)
def test_during_a_rebuild_a_document_has_to_be_in_each_generation_that_there_is(search, edge, items, outcome):
    with search.rebuild():
        edge.put("/_bulk", answers(200, {"errors": True, "items": items}))
        if outcome is None:
            search.index_many(some_coupons(1))
        else:
            with pytest.raises(outcome):
                search.index_many(some_coupons(1))


@pytest.mark.parametrize("path", ["/_bulk", "search"])
@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (429, {"error": {"type": "circuit_breaking_exception"}}, BackendUnavailable),
        (500, {"error": {"type": "illegal_state_exception"}}, BackendUnavailable),
        (502, "<html>Bad gateway</html>", BackendUnavailable),
        (503, {"error": {"type": "cluster_block_exception"}}, BackendUnavailable),
        (503, "no server is available", BackendUnavailable),
        (200, "<html>Hello</html>", BackendUnavailable),
        (401, {"error": {"type": "security_exception"}}, BackendUnavailable),
        (403, {"error": {"type": "security_exception"}}, BackendUnavailable),
        (413, "too large", BackendRejected),
    ],
)
def test_whatever_is_answered_becomes_one_of_two_errors(search, edge, index, path, status, body, outcome):
    edge.put(f"/{index}/_search" if path == "search" else path, answers(status, body))
    with pytest.raises(outcome):
        CALLS["find" if path == "search" else "index_many"](search)


def test_a_document_that_it_cannot_read_is_rejected_and_hinders_nobody_else(search):
    good, bad = some_coupons(2)
    with pytest.raises(BackendRejected, match=bad.code):
        search.index_many([bad._replace(expire_at=Day("someday")), good])
    holds(search, [good])


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


def test_nothing_makes_an_index_by_the_way(url, raw, index):
    with closing(opened(url)) as search:
        for method in ("ping", "find", "index_many"):
            with pytest.raises(BackendUnavailable, match="coupon init"):
                CALLS[method](search)
    assert raw.indices.get(index=f"{index}*") == {}


def test_a_rebuild_makes_an_index_that_was_lost(url):
    coupons = some_coupons(5)
    with closing(opened(url)) as search:
        with search.rebuild() as rebuild:
            rebuild.add_many(coupons[:3])
            search.index_many(coupons[3:])
        holds(search, coupons)


def test_nothing_is_left_behind_by_rebuilds(search, raw, index):
    for _ in range(2):
        with search.rebuild() as rebuild:
            rebuild.add_many(some_coupons(1))
    with pytest.raises(ZeroDivisionError), search.rebuild():
        1 / 0  # noqa: B018
    [aliases] = (found["aliases"].keys() for found in raw.indices.get(index=f"{index}*").body.values())
    assert aliases == {index}


def test_a_rebuild_whose_end_was_not_answered_is_either_whole_or_not_there(search, edge):
    coupons, others = some_coupons(5), some_coupons(5)
    search.index_many(coupons)

    def lose_the_answer(ask):
        ask()
        raise ConnectionTimeout("the answer was lost")

    rebuilding = search.rebuild()
    rebuilding.__enter__().add_many(others)
    edge.put("/_aliases", lose_the_answer)
    with pytest.raises(BackendUnavailable):
        rebuilding.__exit__(None, None, None)
    edge.clear()
    holds(search, others)
    with search.rebuild() as rebuild:
        rebuild.add_many(coupons)
    holds(search, coupons)


def test_the_present_generation_is_never_thrown_away_even_when_it_became_so_just_now(search, edge, raw, index):
    """The end of a rebuild is delayed on its way until somebody has decided to discard the rebuild."""
    coupons = some_coupons(5)
    rebuilding = search.rebuild()
    rebuilding.__enter__().add_many(coupons)
    [old], [new] = raw.indices.get_alias(name=index), raw.indices.get_alias(name=f"{index}-next")

    def arrives_first(ask):
        edge.clear()
        swap = [
            {"add": {"index": new, "alias": index, "is_write_index": True}},
            {"remove": {"index": old, "alias": index}},
        ]
        raw.indices.update_aliases(actions=swap)
        return ask()

    edge.put("/_aliases", arrives_first)
    assert not rebuilding.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    holds(search, coupons)


def test_a_rebuild_that_was_killed_at_its_very_end_costs_nothing(search, edge, raw, index):
    coupons = some_coupons(5)
    rebuilding = search.rebuild()
    rebuilding.__enter__().add_many(coupons)

    def the_last_it_did(ask):
        ask()
        edge.node.perform_request = is_dead
        raise ConnectionTimeout("killed")

    def is_dead(*_, **__):
        raise ConnectionTimeout("dead")

    edge.put("/_aliases", the_last_it_did)
    with pytest.raises(BackendUnavailable):
        rebuilding.__exit__(None, None, None)
    edge.clear()
    assert raw.indices.get_alias(name=f"{index}-next").keys() == raw.indices.get_alias(name=index).keys()
    holds(search, coupons)
    search.index_many(held(coupons, "ann"))
    holds(search, held(coupons, "ann"))
    with search.rebuild() as rebuild:
        rebuild.add_many(coupons[:2])
        holds(search, held(coupons, "ann"))
    holds(search, coupons[:2])
    assert len(raw.indices.get(index=f"{index}*").body) == 1


def test_killed_and_started_again_the_same_object_goes_on(search, services):
    coupons = held(some_coupons(20), "ann")
    search.index_many(coupons)
    holds(search, coupons)
    threads = [threading.Thread(target=search.find, args=(Query("ann"), 10)) for _ in range(8)]
    for thread in threads:  # so that there are several connections to be broken
        thread.start()
    for thread in threads:
        thread.join()
    with services.away("elasticsearch"):
        for method in CALLS:
            unavailable_within(2, lambda method=method: CALLS[method](search))
    settles(lambda: can(search.ping), True)
    assert len(search.find(Query("ann"), 100)) == 20
    search.index_many(held(coupons, "bob", version=3))
    holds(search, held(coupons, "bob", version=3))


@pytest.mark.parametrize("method", CALLS)
def test_silent_it_is_unavailable_in_time(services, index, method):
    with closing(opened(f"elasticsearch://{services.elasticsearch}?index={index}&timeout_s=1")) as search:
        settles(lambda: can(search.create), True)
        with services.silent("elasticsearch"):
            unavailable_within(1.9, lambda: CALLS[method](search))  # one timeout, not two
        settles(lambda: can(search.ping), True)


def test_a_network_that_swallows_everything_is_unavailable_in_time():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        with closing(opened(f"elasticsearch://127.0.0.1:{full.getsockname()[1]}?timeout_s=1")) as search:
            for method in CALLS:
                unavailable_within(1.9, lambda method=method: CALLS[method](search))  # one timeout, not two


def test_of_several_nodes_one_that_is_away_is_not_missed(services, index):
    with closing(opened(f"elasticsearch://127.0.0.1:9,{services.elasticsearch}?index={index}&timeout_s=10")) as search:
        coupons = some_coupons(10)
        search.create()
        for coupon in coupons:
            search.index_many([coupon])
            search.find(Query(), 10)
        holds(search, coupons)


def test_name_and_password_are_sent(services, index):
    with closing(opened(f"elasticsearch://ann:p%40ss@{services.elasticsearch}?index={index}")) as search:
        edge, seen = Edge(search), []

        def perform(method, target, headers, **rest):
            seen.append(headers["authorization"])
            return edge.perform(method, target, headers=headers, **rest)

        edge.node.perform_request = perform
        search.create()
    assert set(seen) == {"Basic YW5uOnBAc3M="}


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
    [document] = settled(lambda: search.find(Query("ann"), 10))
    raw.index(index=index, id=coupon.code, document=document | {"tier": "gold"}, refresh=True)
    assert search.find(Query("ann"), 10) == [document | {"tier": "gold"}]


def settled(ask):
    settles(lambda: bool(ask()), True)
    return ask()


def can(act):
    try:
        act()
    except BackendUnavailable:
        return False
    return True
