"""The file of an import's bad rows, and other files with coupons: whose they are, and what they never harm."""

import csv
import os
import stat

import pytest

from coupon.bulk import files
from coupon.bulk.columns import NO_DAYS, find_columns
from coupon.bulk.csv_rows import BadRow, Row
from coupon.bulk.files import create, written
from coupon.bulk.rejected import RejectedRows
from coupon.bulk.row_file import open_rows
from coupon.domain.errors import UnusableFile

CODE = "A1B2C3D4E5F6G7H8I9J"
COLUMNS = find_columns(f"{CODE},20260101,20261231", NO_DAYS, "rows.csv")


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "rows.csv")


def reject(file, *rows, columns=COLUMNS):
    with RejectedRows(file, columns) as rejected:
        for row in rows:
            rejected.add(row)
    return rejected.path


def content(path, separator=","):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
        return list(csv.reader(opened, delimiter=separator))


def test_a_row_comes_first_as_it_was_and_then_what_is_wrong(file):
    text = b"A;\xfc,b,".decode(errors="surrogateescape")
    path = reject(file, BadRow(7, text, "why, indeed"), BadRow(8, "x", "-"))
    assert path.name == "rows.csv.rejected.csv"
    assert content(path) == [
        ["couponCode", "validFrom", "expireAt", "rejectedBecause", "line"],
        [*text.split(","), "why, indeed", "7"],
        ["x", "", "", "'-", "8"],
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_a_bad_row_there_is_no_file(file, tmp_path):
    assert reject(file) is None
    assert list(tmp_path.iterdir()) == []


def test_no_other_file_is_removed_overwritten_or_followed(file, tmp_path):
    (tmp_path / "rows.csv.rejected.csv").symlink_to(tmp_path / "secret")
    (tmp_path / "rows.csv.rejected-2.csv").write_text("corrected by hand")
    path = reject(file, BadRow(1, "x", "why"))
    assert path.name == "rows.csv.rejected-3.csv"
    assert not (tmp_path / "secret").exists()
    assert (tmp_path / "rows.csv.rejected-2.csv").read_text() == "corrected by hand"
    assert reject(file) is None
    assert len(list(tmp_path.iterdir())) == 3


def test_a_second_run_with_the_same_bad_rows_names_the_same_file(file, tmp_path):
    paths = {reject(file, BadRow(1, "x", "why")) for _ in range(3)}
    assert paths == set(tmp_path.iterdir())
    assert reject(file, BadRow(1, "y", "why")).name == "rows.csv.rejected-2.csv"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_corrected_file_is_imported_and_what_is_still_wrong_is_told_once(tmp_path, separator):
    header = separator.join(["to", "code", "from"])
    file = tmp_path / "rows.csv"
    file.write_text(f"{header}\n" + separator.join(["20261231", CODE, "1.1.2026"]) + f"\n=1+1{separator}x\n")
    with open_rows(str(file)) as rows:
        path = reject(str(file), *(row for row in rows if isinstance(row, BadRow)), columns=rows.columns)
    assert "'=1+1" in path.read_text()
    path.write_text(path.read_text().replace("1.1.2026", "20260101", 1))
    with open_rows(str(path)) as rows:
        good, bad = rows
        again = reject(str(path), bad, columns=rows.columns)
    assert (type(good), good.code, good.valid_from, good.expire_at) == (Row, CODE, "2026-01-01", "2026-12-31")
    assert again.read_text().splitlines()[0] == path.read_text().splitlines()[0]
    assert content(again, separator)[1] == ["'=1+1", "x", "", "a code has 19 letters and digits, this one has 1", "3"]


def test_cells_that_were_too_many_may_be_emptied_or_deleted(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text(f"code,from,to\n{CODE},20260101,20261231,x\n{CODE},1.1.2026,20261231,,\n")
    with open_rows(str(file)) as rows:
        path = reject(str(file), *rows, columns=rows.columns)
    assert [row[:4] for row in content(path)[1:]] == [
        [CODE, "20260101", "20261231", "x"],
        [CODE, "1.1.2026", "20261231", "the first day '1.1.2026' is not written as 20261231, 2026-12-31 or 2026/12/31"],
    ]
    kinds = []
    for wrong, corrected in (("1.1.2026", "20260101"), (",x,", ",,"), (",,", ",")):
        with open_rows(str(path)) as rows:
            kinds.append([type(row) for row in rows])
        path.write_text(path.read_text().replace(wrong, corrected, 1))
    assert kinds == [[BadRow, BadRow], [BadRow, Row], [Row, Row]]
    with open_rows(str(path)) as rows:
        assert [type(row) for row in rows] == [Row, Row]


def stopped_while_writing(path, replace):
    with written(path, replace) as out:
        out.write("half")
        out.flush()
        raise KeyboardInterrupt


def failing(path, replace=False):
    with pytest.raises(KeyboardInterrupt):
        stopped_while_writing(path, replace)


def test_a_file_has_its_name_and_its_owner_alone_once_it_is_complete(tmp_path):
    path = tmp_path / "out.csv"
    with written(path, replace=False) as out:
        out.write("whole")
        assert not path.exists()
        assert [stat.S_IMODE(draft.stat().st_mode) for draft in tmp_path.iterdir()] == [0o600]
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("whole", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_after_a_failure_nothing_is_left_and_an_older_file_is_as_it_was(tmp_path):
    path = tmp_path / "out.csv"
    failing(path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    failing(path, replace=True)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]


def test_a_file_is_replaced_only_when_that_was_asked_for(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(UnusableFile, match="is there already: --force"), written(path, replace=False):
        pass
    with written(path, replace=True) as out:
        out.write("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_made_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "out.csv"
    with pytest.raises(UnusableFile, match="made meanwhile"), written(path, replace=False):
        path.write_text("of somebody else")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["of somebody else"]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_no_link_is_followed(tmp_path, replace, there):
    target, link = tmp_path / "target", tmp_path / "out.csv"
    if there:
        target.write_text("of somebody else")
    link.symlink_to(target)
    with pytest.raises(UnusableFile, match="is a link"), written(link, replace):
        pass
    with pytest.raises(FileExistsError):
        create(link)
    assert target.exists() == there
    assert not there or target.read_text() == "of somebody else"


def test_a_pipe_of_another_user_is_written_only_when_that_is_meant(tmp_path, monkeypatch):
    """In a folder that all may write to, somebody may have made a pipe of the file's name, to read what comes."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(os, "geteuid", lambda: pipe.lstat().st_uid + 4_711)
    monkeypatch.setattr(files, "ROOT_UID", -1)
    with pytest.raises(UnusableFile, match="another user's"), files.written(pipe, replace=False):
        pass


def test_a_pipe_is_written_directly(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    both_ends = os.open(tmp_path / "pipe", os.O_RDWR)
    with written(tmp_path / "pipe", replace=False) as out:
        out.write("whole")
    assert os.read(both_ends, 100) == b"whole"
    os.close(both_ends)
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]
