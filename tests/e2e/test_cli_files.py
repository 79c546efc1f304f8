"""The files of ``coupon export`` and ``coupon import``: whose they are, what they replace, how they fit together."""

import csv
import json
import os
import signal
from contextlib import contextmanager
from pathlib import Path

from coupon.ports.store import Store
from coupon.runtime.wiring import open_backend
from tests.coupons import NOW, a_coupon
from tests.e2e.deployment import Deployment, embedded
from tests.e2e.test_cli import one_sentence, start, start_impatient


@contextmanager
def closing_deployment(folder):
    """Another service that was set up, with a worker."""
    deployment = Deployment(embedded(folder))
    deployment.coupon("init")
    deployment.start_worker()
    yield deployment
    deployment.__exit__()


def test_an_export_replaces_only_what_it_may_and_follows_no_link(cli, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    both_ends = os.open(tmp_path / "pipe", os.O_RDWR)
    cli.coupon("export", str(tmp_path / "pipe"))
    assert os.read(both_ends, 100).startswith(b"couponCode")
    os.close(both_ends)
    assert not (tmp_path / "pipe").is_file()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    one_sentence(cli.coupon("export", str(tmp_path / "link"), check=False), 2, "is a link")
    assert not (tmp_path / "real").exists()
    (tmp_path / "real").write_text("old")
    one_sentence(cli.coupon("export", str(tmp_path / "real"), check=False), 2, "is there already: --force replaces it")
    assert (tmp_path / "real").read_text() == "old"
    cli.coupon("export", str(tmp_path / "real"), "--force", "--bom")
    assert (tmp_path / "real").read_bytes().startswith(b"\xef\xbb\xbfcouponCode")
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o600
    assert cli.coupon("export", "--json", "--raw", check=False).returncode == 2


def test_an_export_that_fails_or_is_ended_leaves_nothing(cli, tmp_path):
    folder = tmp_path / "exports"
    folder.mkdir()
    cli.environ["COUPON_STORE_URL"] = "dynamodb://127.0.0.1:1?region=local"
    waiting = start_impatient(cli, "export", str(folder / "out.csv"))
    assert "waiting for the store" in waiting.stderr.readline()
    waiting.communicate(timeout=30)
    assert (waiting.returncode, list(folder.iterdir())) == (3, [])
    for number in (signal.SIGTERM, signal.SIGHUP):
        waiting = start(cli, "export", str(folder / "out.csv"))
        assert "waiting for the store" in waiting.stderr.readline()
        assert len(list(folder.iterdir())) == 1
        waiting.send_signal(number)
        waiting.communicate(timeout=10)
        assert (waiting.returncode, list(folder.iterdir())) == (130, [])


def test_bad_rows_are_told_and_written_down_and_the_others_imported(cli, tmp_path):
    file = tmp_path / "rows.csv"
    good = "CODE000000000000001, 20260101, 20261231"
    file.write_text(f"code,from,to\n{good}\nshort, 20260101, 20261231\n{good}\n")
    cli.start_worker()
    ran = cli.coupon("import", str(file), check=False)
    assert ran.returncode == 1
    assert "1 new, 0 unchanged, 2 bad" in ran.stdout
    assert "line 1 was taken for a header: code is the code, from is the first day, to is the last day" in ran.stderr
    assert "line 3: a code has 19 letters" in ran.stderr
    assert "line 4: the code is a duplicate of the one on line 2" in ran.stderr
    rejected = Path(f"{file}.rejected.csv")
    rows = list(csv.reader(rejected.read_text().splitlines()))
    assert [(row[0].strip(), row[4]) for row in rows] == [
        ("code", "line"),
        ("short", "3"),
        ("CODE000000000000001", "4"),
    ]
    rejected.write_text(rejected.read_text().replace("short", "CODE000000000000002"))
    assert "1 new, 1 unchanged, 0 bad" in cli.coupon("import", str(rejected)).stdout
    file.write_text("short, 20260101, 20261231\n")
    again = json.loads(cli.coupon("import", str(file), "--json", check=False).stdout)
    assert again["rejectedFile"] == f"{file}.rejected-2.csv"
    assert "CODE000000000000002" in rejected.read_text()  # the correction is kept


def test_what_was_exported_is_imported_elsewhere_and_a_file_of_codes_with_the_days_that_are_given(cli, tmp_path):
    file, exported = tmp_path / "codes.csv", tmp_path / "out.csv"
    file.write_text("CODE000000000000001\nCODE000000000000002\n")
    cli.start_worker()
    assert "2 new" in cli.coupon("import", str(file), "--valid-from", "2026/11/01", "--expire-at", "20261231").stdout
    cli.coupon("export", str(exported), "--bom")
    (tmp_path / "other").mkdir()
    with closing_deployment(tmp_path / "other") as other:
        assert "2 new, 0 unchanged, 0 bad" in other.coupon("import", str(exported)).stdout
        days = [
            (row["validFrom"], row["expireAt"]) for row in csv.DictReader(other.coupon("export").stdout.splitlines())
        ]
        assert days == [("2026-11-01", "2026-12-31")] * 2


def test_an_export_is_in_utf_8_wherever_it_is_written(cli):
    store = open_backend(Store, cli.environ["COUPON_STORE_URL"])
    store.save_many([a_coupon(user_id="Müller", issued_at=NOW)])
    store.close()
    cli.environ |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    running = start(cli, "export")
    out, _ = running.communicate(timeout=60)
    assert (running.returncode, "Müller" in out) == (0, True)
