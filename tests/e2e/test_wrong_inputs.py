"""Each row: a file that somebody gives to ``coupon import``, and the one sentence that a person sees."""

import pytest

CODE = "A1B2C3D4E5F6G7H8I9J"
GOOD = f"{CODE},20260101,20261231"
LONG = "x" * 1_001
WRONG_FILES = [
    (b"", "rows.csv has no rows"),
    (b"\xef\xbb\xbf\n \n", "rows.csv has no rows"),
    (b"couponCode,validFrom,expireAt\n", "rows.csv has a header and no rows"),
    (GOOD.encode("utf-16"), "rows.csv is not a text file in UTF-8: a spreadsheet saves one as CSV UTF-8"),
    (b"PK\3\4\0\0", "rows.csv is not a text file in UTF-8: a spreadsheet saves one as CSV UTF-8"),
    (
        f"code,from\n{GOOD}".encode(),
        "rows.csv has a header without a column for the last day (expireAt); --expire-at gives one",
    ),
    (
        f"code,coupon,from,to\n{GOOD}".encode(),
        "rows.csv has a header with several columns for the code: 'code' and 'coupon'",
    ),
]
OF_CODES = (
    "a row has 3 columns separated by commas, this one has 1; --valid-from and --expire-at give days to a file of codes"
)
A_NUMBER = "a spreadsheet made the number 1.23E+18 of the code: format its column as text, and save it again"
WRONG_ROWS = [
    ("1.23E+18,20260101,20261231", A_NUMBER),
    ("A1B2C_3D4E5F_6G7H8I9J,20260101,20261231", "a code is made of A–Z and 0–9, this one holds '_'"),
    ("A1B2C–3D4E5F–6G7H8I9,20260101,20261231", "a code has 19 letters and digits, this one has 18"),
    (CODE, OF_CODES),
    (f"{CODE};20260101;20261231", OF_CODES),
    (f"{CODE},20260101,20261231,x", "a row has 3 columns separated by commas, this one has 4"),
    (f"{CODE},01.11.2026,20261231", "the first day '01.11.2026' is not written as 20261231, 2026-12-31 or 2026/12/31"),
    (f"{CODE},,20261231", "the first day '' is not written as 20261231, 2026-12-31 or 2026/12/31"),
    (f"{CODE},20260101,2026/02/30", "the last day '2026/02/30' is not in the calendar"),
    (f"{CODE},20261231,20260101", "the last day 2026-01-01 is before the first day 2026-12-31"),
    (f"{CODE},\x1b[2K,20261231", "the first day '\\x1b[2K' is not written as 20261231, 2026-12-31 or 2026/12/31"),
    (f"{CODE},caf\udce9,20261231", "the line is not UTF-8"),
    (LONG, "the line is longer than 1000 characters"),
    (GOOD, "the code is a duplicate of the one on line 1"),
]


@pytest.mark.parametrize(("content", "sentence"), WRONG_FILES)
def test_a_file_that_cannot_be_imported_is_one_sentence(cli, tmp_path, content, sentence):
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    ran = cli.coupon("import", str(file), check=False)
    errors = [line for line in ran.stderr.splitlines() if "was taken for a header" not in line]
    assert (ran.returncode, ran.stdout, errors) == (2, "", [f"coupon: {tmp_path}/{sentence}"])
    assert not (tmp_path / "rows.csv.rejected.csv").exists()


def test_a_row_that_cannot_be_imported_is_one_sentence_and_costs_no_other(cli, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("\n".join([GOOD, *(row for row, _ in WRONG_ROWS)]), errors="surrogateescape")
    ran = cli.coupon("import", str(file), "--no-wait", check=False)
    said = dict(line.removeprefix("line ").split(": ", 1) for line in ran.stderr.splitlines())
    assert said == {str(line): sentence for line, (_, sentence) in enumerate(WRONG_ROWS, 2)}
    assert (ran.returncode, ran.stdout.splitlines()[0].split(":")[0]) == (
        1,
        f"1 new, 0 unchanged, {len(WRONG_ROWS)} bad",
    )
    rejected = file.with_name("rows.csv.rejected.csv").read_text(errors="surrogateescape").splitlines()
    assert len(rejected) == 1 + len(WRONG_ROWS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--valid-from", "1.1.2026"], "'1.1.2026' is not written as 20261231, 2026-12-31 or 2026/12/31"),
        (["--expire-at", "20260230"], "'20260230' is not in the calendar"),
    ],
)
def test_a_day_that_is_none_is_told(cli, tmp_path, arguments, sentence):
    ran = cli.coupon("import", str(tmp_path / "rows.csv"), *arguments, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert sentence in ran.stderr
    assert "Traceback" not in ran.stderr
