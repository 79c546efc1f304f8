"""Lists, of an index in which there is also what nobody of ours has written."""

from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from coupon.acceptance.queries import AGAIN, ROUNDS, Queries
from coupon.domain.codes import CodeDeriver
from coupon.domain.serialization import document
from tests.coupons import a_coupon

CODES = [f"{number:019d}" for number in range(40)]
GOOD = {code: document(a_coupon(code, user_id="ann", issued_at=1)) for code in CODES}
BAD = [
    None,
    5,
    [],
    {},
    {"version": 0},
    {"version": 10**16},
    {"version": "1"},
    {"issued": "yes"},
    {"used": None},
    {"userId": ["ann", "bob"]},
    {"userId": "u" * 129},
    {"validFrom": 20261101},
    {"expireAt": "soon"},
    {"createdAt": "x" * 25},
    {"modifiedAt": None},
    {"couponCode": None},
    {"couponCode": "short"},
    {"couponCode": ["A" * 19]},
]
"""What is no document; of an object, what it has in the place of a good one's fields."""


class Shelf:
    """A search that holds these, by what they are filed under."""

    def __init__(self, items):
        self.items, self.asked = dict(sorted(items.items())), 0

    def find(self, query, limit, after=""):
        self.asked += 1
        return [item for code, item in self.items.items() if code > after][:limit]


def walked(shelf, limit):
    queries = Queries(shelf, None, CodeDeriver("a secret"), ZoneInfo("UTC"))
    page = queries.held_by("ann", limit, None)
    pages = [page.items]
    while page.next is not None:
        page = queries.held_by("ann", limit, page.next)
        assert len(page.items) <= limit
        pages.append(page.items)
    return [item["couponCode"] for items in pages for item in items]


def spoilt(code, bad):
    return GOOD[code] | bad if bad and isinstance(bad, dict) else bad


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_what_is_no_document_is_left_out_and_named_and_hides_no_other(bad, limit):
    places = {CODES[3], CODES[17]}
    shelf = Shelf({code: spoilt(code, bad) if code in places else GOOD[code] for code in CODES})
    with capture_logs() as logs:
        found = walked(shelf, limit)
    assert found == [code for code in CODES if code not in places]
    left_out = [line for line in logs if line["event"] == "document left out"]
    assert left_out
    assert all(line["log_level"] == "warning" and line["error"] for line in left_out)
    if isinstance(bad, dict) and bad and "couponCode" not in bad:
        assert {line["code"] for line in left_out} == places


def test_an_index_full_of_what_is_none_is_asked_only_so_often_for_a_page():
    bad = {f"{number:019d}": document(a_coupon(f"{number:019d}", version=0)) for number in range(ROUNDS * AGAIN)}
    last = document(a_coupon("Z" * 19))
    shelf = Shelf(bad | {"Z" * 19: last})
    page = Queries(shelf, None, CodeDeriver("a secret"), ZoneInfo("UTC")).held_by("ann", 1, None)
    assert (page.items, shelf.asked) == ([], ROUNDS)
    assert page.next is not None
    assert walked(shelf, 1) == ["Z" * 19]


def test_documents_with_fields_of_a_later_version_are_given_whole():
    later = GOOD[CODES[0]] | {"colour": "red"}
    page = Queries(Shelf({CODES[0]: later}), None, CodeDeriver("a secret"), ZoneInfo("UTC")).held_by("ann", 10, None)
    assert page.items == [later]
