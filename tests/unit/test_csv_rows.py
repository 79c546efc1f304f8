"""Rows of an import file, as people and spreadsheets write them."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupon.bulk.columns import NO_DAYS, Days
from coupon.bulk.csv_rows import LINE_MAX, BadRow, Row
from coupon.bulk.row_file import RowFile, open_rows
from coupon.domain.codes import ALPHABET, show
from coupon.domain.errors import UnusableFile

CODE = "A1B2C3D4E5F6G7H8I9J"
GOOD = f"{CODE}, 20260101, 20261231"
codes = st.text(ALPHABET, min_size=19, max_size=19)
dates = st.dates()


def opened(text, days=NO_DAYS):
    content = io.BytesIO(text.encode("utf-8", "surrogatepass"))
    return RowFile(io.TextIOWrapper(content, "utf-8", "surrogateescape"), days, "rows.csv")  # as a file is opened


def read(text, days=NO_DAYS):
    return list(opened(text, days))


def reason(line):
    (row,) = read(f"{GOOD}\n{line}\n")[1:]
    assert isinstance(row, BadRow)
    assert (row.line, row.text) == (2, line)
    return row.reason


@pytest.mark.parametrize(
    "line",
    [
        "A1B2C3D4E5F6G7H8I9J,20260101,20261231",
        "A1B2C3D4E5F6G7H8I9J, 2026-01-01, 2026-12-31",
        "A1B2C-3D4E5F-6G7H8I9J,20260101,2026-12-31",
        " a1b2c3d4e5f6g7h8i9j ,\t20260101 , 20261231  ",
        '"A1B2C3D4E5F6G7H8I9J", "20260101","20261231"',
        "A1B2C-3D4E5F-6G7H8I9J;2026/01/01;2026/12/31",
        "A1B2C3D4E5F6G7H8I9J\t20260101\t2026/12/31",
        "A1B2C3D4E5F6G7H8I9J,2026/1/1,2026-12-31,,",
        "A1B2C–3D4E5F–6G7H8I9J,20260101,20261231",
        "A1B2C 3D4E5F\u00a06G7H8I9J\u200b,20260101,\u200b20261231\ufeff",
        "'A1B2C3D4E5F6G7H8I9J,20260101,20261231",
    ],
)
def test_a_row_may_be_written_in_several_ways(line):
    assert read(line) == [Row(1, line, CODE, "2026-01-01", "2026-12-31")]


@given(codes, dates, dates, st.booleans(), st.booleans())
def test_every_code_and_every_pair_of_days_is_kept_exactly(code, one, other, dashes, iso):
    first, last = sorted((one, other))
    cells = [
        show(code) if dashes else code,
        *(d.isoformat() if iso else d.isoformat().replace("-", "") for d in (first, last)),
    ]
    (row,) = read(", ".join(cells))
    assert row[2:5] == (code, first.isoformat(), last.isoformat())


@given(st.text())
def test_any_text_makes_rows_that_stand_on_their_own_lines(text):
    lines = [line.lstrip("\ufeff") for line in re.split("\r\n|\r|\n", text)]
    for row in read(f"{GOOD}\n{text}")[1:]:
        row = row._replace(line=row.line - 1)
        assert row.text == lines[row.line - 1][: LINE_MAX + 1]


@given(st.lists(st.text(st.characters(blacklist_characters="\r\n")), max_size=5))
def test_a_bad_row_never_takes_a_good_one_with_it(lines):
    """Not with a stray quotation mark either."""
    found = read("\n".join([GOOD, *(f'"{line}' for line in lines), GOOD]))
    assert isinstance(found[0], Row)
    assert isinstance(found[-1], Row)
    assert len(found) == len(lines) + 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("A1B2C3D4E5F6G7H8I9, 20260101, 20261231", "19 letters and digits, this one has 18"),
        ("A1B2C3D4E5F6G7H8I9JK, 20260101, 20261231", "this one has 20"),
        ("A1B2C3D4E5F6G7H8I9_, 20260101, 20261231", "'_'"),
        ("A1B2C3D4E5F6G7H8I9ß, 20260101, 20261231", "'ß'"),
        (f"{CODE}, 20260230, 20261231", "the first day '20260230' is not in the calendar"),
        (f"{CODE}, 20260101, 2026-13-01", "the last day '2026-13-01' is not in the calendar"),
        (f"{CODE}, 00000101, 20261231", "not in the calendar"),
        (f"{CODE}, 1.1.2026, 20261231", "not written as"),
        (f"{CODE}, 2026-W01, 20261231", "not written as"),
        (f"{CODE}, ２０２６０１０１, 20261231", "not written as"),
        (f"{CODE}, , 20261231", "not written as"),
        (f"{CODE}, 20261231, 20260101", "the last day 2026-01-01 is before the first day 2026-12-31"),
        (f"{CODE}, 20260101", "3 columns separated by commas, this one has 2"),
        (f"{CODE}, 20260101, 20261231, x", "3 columns separated by commas, this one has 4"),
        (CODE, "this one has 1; --valid-from and --expire-at give days"),
        ("1.23E+18, 20260101, 20261231", "a spreadsheet made the number 1.23E+18 of the code"),
        (f"{CODE}, 2026/1-1, 20261231", "not written as"),
        ("code, first, last", "this one has 4"),
        (CODE + ", 20260101, 20261231" + " " * LINE_MAX, "longer"),
    ],
)
def test_a_bad_row_says_what_is_wrong(line, words):
    if len(line) > LINE_MAX:
        bad, good = read(f"{line}\n{GOOD}")
        assert words in bad.reason
        assert (good.line, good.code) == (2, CODE)
    else:
        assert words in reason(line)


@pytest.mark.parametrize(
    "header", ["code,validFrom,expireAt", "couponCode, valid_from, expire_at", "코드,시작일,종료일"]
)
def test_a_header_is_no_row_and_is_told(header):
    file = opened(f"\n{header}\n{GOOD}")
    assert [row.line for row in file] == [3]
    assert (file.header_line, file.columns.header) == (2, header)


def test_columns_are_known_by_the_names_of_a_header_in_any_order():
    file = opened(f"batch;Expire At;user_note;COUPON-CODE;valid_from\n7;20261231;=1;{CODE};20260101\n")
    assert file.columns.sentence() == (
        "taken for a header: COUPON-CODE is the code, valid_from is the first day, Expire At is the last day;"
        " 2 other columns are not imported"
    )
    assert [row[2:5] for row in file] == [(CODE, "2026-01-01", "2026-12-31")]


def test_a_header_that_is_not_known_is_told_and_the_columns_are_taken_by_place():
    file = opened(f"코드,시작일,종료일\n{GOOD}")
    assert file.columns.sentence() == (
        "taken for a header of other names (코드,시작일,종료일);"
        " the columns are taken as the code, the first day, the last day"
    )


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("code,from", r"without a column for the last day \(expireAt\); --expire-at gives one"),
        ("code", r"the first day \(validFrom\)"),
        ("code,couponCode,from,to", "several columns for the code: 'code' and 'couponCode'"),
    ],
)
def test_a_header_that_does_not_say_what_is_what_is_an_error(header, words):
    with pytest.raises(UnusableFile, match=words):
        opened(f"{header}\n{GOOD}")


DAYS = Days("2026-01-01", "2026-12-31")


@pytest.mark.parametrize(
    "text", [CODE, f"code\n{CODE}", f"코드\n{CODE}", f"{CODE},,", f"to,code\n,{CODE}", f"code;from\n{CODE};"]
)
def test_a_file_of_codes_takes_the_days_that_are_given(text):
    assert [row[2:5] for row in read(text, DAYS)] == [(CODE, *DAYS)]


def test_days_of_a_row_go_before_those_that_are_given():
    assert [row[2:5] for row in read(f"{CODE},20260202", DAYS)] == [(CODE, "2026-02-02", "2026-12-31")]


def test_files_that_were_joined_have_byte_order_marks_and_headers_in_the_middle():
    part = f'\ufeffcode,from,to\n\ufeff"{CODE}",20260101,20261231\n'
    assert [type(row) for row in read(part + part)] == [Row, Row]


@pytest.mark.parametrize(
    ("cells", "is_issued"),
    [
        ("true,ann", True),
        ("WAHR,ann", True),
        ("WAHR, ", True),
        ('"true", ', True),  # a blank beside a quotation mark is none
        ("false,", False),
        ("FALSCH,", False),
    ],
)
def test_a_row_of_an_export_tells_whether_somebody_holds_the_coupon(cells, is_issued):
    (row,) = read(f"couponCode,issued,userId,validFrom,expireAt\n{CODE},{cells},20260101,20261231")
    assert row.is_issued == is_issued


@pytest.mark.parametrize(
    ("word", "is_issued"), [("TRUE", True), ("false", False), ("0", False), ("", False), ("vrai", True)]
)
def test_without_a_column_for_the_holder_the_word_tells(word, is_issued):
    (row,) = read(f"couponCode,issued,validFrom,expireAt\n{CODE},{word},20260101,20261231")
    assert row.is_issued == is_issued


@pytest.mark.parametrize("line", ["ABCDEFGHIJKLMNOPQRS,first,last", "a,b", "code,2026-01-01,last", ",,"])
def test_a_bad_first_row_is_not_taken_for_a_header(line):
    assert [type(row) for row in read(f"{line}\n{GOOD}")] == [BadRow, Row]


def test_empty_lines_count_as_lines_only():
    assert [row.line for row in read(f"\n \n{GOOD}\n\n{GOOD}\n\n")] == [3, 5]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_any_line_ends_and_a_byte_order_mark_are_fine(tmp_path, end, mark):
    file = tmp_path / "rows.csv"
    file.write_bytes(mark + (f"{GOOD}{end}" * 3).encode())
    with open_rows(str(file)) as text:
        for _ in range(2):
            assert [row.line for row in text if isinstance(row, Row)] == [1, 2, 3]


def test_a_line_of_any_length_is_one_bad_row_in_flat_memory(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("A" * 5_000_000 + "\n" + GOOD)
    with open_rows(str(file)) as text:
        bad, good = text
    assert len(bad.text) == LINE_MAX + 1
    assert (good.line, good.code) == (2, CODE)


def test_a_row_that_is_not_utf_8_is_bad_and_the_others_are_good(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(f"{GOOD}\nMünchen\n{GOOD}\n".encode("latin-1"))
    with open_rows(str(file)) as text:
        good, bad, _ = text
    assert isinstance(good, Row)
    assert bad.reason == "the line is not UTF-8"
    assert bad.text.encode(errors="surrogateescape") == b"M\xfcnchen"


def test_a_file_in_utf_16_or_a_spreadsheet_is_not_usable(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(UnusableFile, match="not a text file in UTF-8"):
        open_rows(str(file))


def test_an_empty_file_has_no_rows(tmp_path):
    file = tmp_path / "rows.csv"
    file.touch()
    with open_rows(str(file)) as text:
        assert list(text) == []
