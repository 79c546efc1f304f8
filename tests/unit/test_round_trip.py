"""What an export writes an import reads: the same coupons, whatever they hold and whichever program saved the file."""

import csv
import io
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupon.bulk.cells import escape, unescape
from coupon.bulk.exporter import csv_writer, export
from coupon.bulk.scan import pages
from coupon.domain.codes import ALPHABET
from coupon.domain.model import Day
from coupon.web.fields import fault_of_user_id
from tests.coupons import NOW, a_coupon
from tests.unit.desk import a_desk

FORMULAS = ["=1+1", "+1", "-2+3", "@SUM(1)", "\t=1", "'=1", "＝1", '=HYPERLINK("x","y")', "a;=1+1", " =1"]
HARMLESS = ["ann", " ", '" ', "'", "\u200b"]
days = st.dates(date(2000, 1, 1), date(2099, 12, 31)).map(lambda day: Day(day.isoformat()))
any_text = st.sampled_from(FORMULAS + HARMLESS) | st.text(max_size=20)
user_ids = any_text.filter(lambda text: fault_of_user_id(text) is None)


@st.composite
def coupons(draw):
    first, last = sorted((draw(days), draw(days)))
    code = draw(st.text(ALPHABET, min_size=19, max_size=19))
    holder = draw(st.none() | user_ids)
    issued = {} if holder is None else {"user_id": holder, "issued_at": NOW}
    return a_coupon(code, valid_from=first, expire_at=last, **issued)


def saved_with(separator, bom, text):
    """The file as another program saves it."""
    if separator == ",":
        return bom + text
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\r\n").writerows(csv.reader(io.StringIO(text)))
    return bom + out.getvalue()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(coupons(), min_size=1, max_size=8, unique_by=lambda coupon: coupon.code),
    st.booleans(),
    st.sampled_from(",;\t"),
    st.sampled_from(["", "\ufeff"]),
)
def test_an_export_into_a_fresh_store_gives_the_free_coupons_and_names_the_others(exported, raw, separator, bom):
    out = io.StringIO()
    export([exported], csv_writer(out, raw), lambda _: None)
    with TemporaryDirectory() as folder, a_desk(Path(folder)) as desk:
        desk.path.write_bytes(saved_with(separator, bom, out.getvalue()).encode())
        counts = desk.run()
        free = {coupon.code: coupon for coupon in exported if not coupon.issued}
        assert (counts.new, counts.bad) == (len(free), len(exported) - len(free))
        assert all("was issued" in row.reason for row in desk.bad)
        stored = {coupon.code: coupon for page in pages(desk.backends.store) for coupon in page}
        assert stored.keys() == free.keys()
        days_of = [(each.valid_from, each.expire_at, free[each.code].valid_from) for each in stored.values()]
        assert all(first == expected for first, _, expected in days_of)
        assert all(stored[code].expire_at == coupon.expire_at for code, coupon in free.items())
        again = desk.run()
        assert (again.new, again.unchanged) == (0, len(free))


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1"])
def test_a_spreadsheet_runs_nothing_of_an_export(formula):
    out = io.StringIO()
    export([[a_coupon(user_id=formula, issued_at=NOW)]], csv_writer(out), lambda _: None)
    (row,) = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert row["userId"] == f"'{formula}"


@given(st.text() | st.sampled_from(FORMULAS))
def test_every_cell_comes_back_and_begins_as_no_formula_does(cell):
    escaped = escape(cell)
    assert unescape(escaped) == cell
    assert not escaped.startswith(tuple("=+-@\t\r\n＝＋－＠\u00a0\u200b\u3000\ufeff"))


@pytest.mark.parametrize("cell", ["", "ann", " =1", "1", "a=1"])
def test_a_cell_that_is_no_formula_stays_as_it_is(cell):
    assert escape(cell) == cell
