"""All coupons leave the store as CSV or JSON lines, and reach a new search index."""

import csv
import io
import json

import pytest

from coupon.bulk.exporter import csv_writer, export, json_writer
from coupon.bulk.reindex import reindex
from coupon.bulk.scan import PAGE, pages
from coupon.domain.codes import show
from coupon.domain.model import Day
from coupon.domain.serialization import document
from coupon.ports.search import Query, Search
from coupon.ports.store import Page, Store
from coupon.runtime.wiring import open_backend
from tests.coupons import NOW, a_coupon

ISSUED = a_coupon("B" * 19, user_id='=Müller, "Ann"', issued_at=NOW + 1)


def in_memory(role):
    backend = open_backend(role, "memory://")
    backend.create()
    yield backend
    backend.close()


@pytest.fixture
def store():
    yield from in_memory(Store)


@pytest.fixture
def search():
    yield from in_memory(Search)


def ignore(_: int) -> None:
    pass


def test_csv_has_all_wire_names_and_every_character():
    out = io.StringIO()
    assert export([[a_coupon()], [], [ISSUED]], csv_writer(out), ignore) == 2
    first, second = csv.DictReader(io.StringIO(out.getvalue()))
    assert list(first) == list(document(ISSUED))
    assert first | {"userId": "", "issued": "false", "usedAt": ""} == first
    assert (first["couponCode"], second["couponCode"]) == (show("A" * 19), show("B" * 19))
    assert second | {"userId": '\'=Müller, "Ann"', "issued": "true", "issuedAt": document(ISSUED)["issuedAt"]} == second


def test_without_coupons_csv_is_its_header():
    out = io.StringIO()
    assert export([[]], csv_writer(out), ignore) == 0
    assert out.getvalue().count("\n") == 1


def test_json_lines_are_the_documents():
    out = io.StringIO()
    export([[a_coupon(), ISSUED]], json_writer(out), ignore)
    shown = [document(coupon) | {"couponCode": show(coupon.code)} for coupon in (a_coupon(), ISSUED)]
    assert [json.loads(line) for line in out.getvalue().splitlines()] == shown


def test_a_program_gets_every_cell_as_it_is():
    out = io.StringIO()
    export([[ISSUED]], csv_writer(out, raw=True), ignore)
    (row,) = csv.DictReader(io.StringIO(out.getvalue()))
    assert row["userId"] == '=Müller, "Ann"'


def test_the_pages_of_a_store_hold_every_coupon_once(store):
    codes = {f"{number:019d}" for number in range(2 * PAGE + 1)}
    store.save_many([a_coupon(code) for code in codes])
    found = [coupon.code for page in pages(store) for coupon in page]
    assert len(found) == len(codes)
    assert set(found) == codes


def test_an_empty_page_is_not_the_end(store, monkeypatch):
    answers = iter([Page([], "1"), Page([ISSUED], "2"), Page([], None)])
    monkeypatch.setattr(store, "scan", lambda limit, cursor=None: next(answers))
    assert [coupon for page in pages(store) for coupon in page] == [ISSUED]


def test_reindexing_replaces_the_index_and_tells_its_progress(search):
    search.index_many([a_coupon("C" * 19, expire_at=Day("2026-11-30"))])
    counts = []
    assert reindex([[a_coupon()], [ISSUED]], search, counts.append) == 2
    assert counts == [1, 2]
    found = search.find(Query(unused_until=Day("2026-11-30")), 10)
    assert [doc["couponCode"] for doc in found] == ["A" * 19, "B" * 19]


def test_an_interrupted_reindexing_leaves_the_present_index(search):
    search.index_many([a_coupon()])

    def broken():
        yield [ISSUED]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reindex(broken(), search, ignore)
    assert [doc["couponCode"] for doc in search.find(Query(unused_until=Day("2026-11-30")), 10)] == ["A" * 19]
