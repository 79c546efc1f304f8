"""Whatever Elasticsearch answers: no document is passed over, and an error is one of two."""

from contextlib import closing, nullcontext, suppress

import pytest

from backends.testing.coupons import some_coupons
from backends.testing.search import CALLS, holds, opened
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.domain.model import Day
from tests.contracts.elasticsearch.edge import answers

pytestmark = [
    pytest.mark.services,
    pytest.mark.usefixtures("elasticsearch_refreshes_soon", "rebuilds_begin_soon"),
]


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


def index_some(search, number, outcome):
    """Index so many coupons. ``outcome`` is the error that it has to raise; None when it has to succeed."""
    with nullcontext() if outcome is None else pytest.raises(outcome):
        search.index_many(some_coupons(number))


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
    index_some(search, 2, outcome)


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
        index_some(search, 1, outcome)


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


@pytest.mark.parametrize("body", [{}, {"status": "ok"}])
def test_what_somebody_else_answers_is_no_empty_list(services, index, edge, body):
    with closing(opened(f"elasticsearch://{services.elasticsearch}?index={index}")) as search:
        edge.put(f"/{index}/_search", answers(200, body, product="Proxy"))
        with pytest.raises((BackendRejected, BackendUnavailable)):
            CALLS["find"](search)


@pytest.mark.parametrize(("status", "asked"), [(200, 1), (429, 1), (404, 2), (503, 2)])
def test_only_what_may_pass_at_once_is_asked_for_again(search, edge, index, status, asked):
    requests, answer = [], answers(status, {"error": {"type": "some_exception"}})
    edge.put(f"/{index}/_search", lambda ask: requests.append(1) or answer(ask))
    with suppress(BackendRejected, BackendUnavailable):
        CALLS["find"](search)
    assert len(requests) == asked


def test_a_document_that_it_cannot_read_is_rejected_and_hinders_nobody_else(search):
    good, bad = some_coupons(2)
    with pytest.raises(BackendRejected, match=bad.code):
        search.index_many([bad._replace(expire_at=Day("someday")), good])
    holds(search, [good])


def test_name_and_password_are_sent(services, index, edge):
    seen = []

    def perform(node, method, target, headers, **rest):
        seen.append(headers["authorization"])
        return edge.pass_on(node, method, target, headers=headers, **rest)

    edge.instead(perform)
    with closing(opened(f"elasticsearch://ann:p%40ss@{services.elasticsearch}?index={index}")) as search:
        search.create()
        holds(search, [])
    assert set(seen) == {"Basic YW5uOnBAc3M="}
