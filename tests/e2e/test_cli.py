"""The command line as an operator and a program use it: real processes, on SQLite files and a real worker."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from coupon.bulk.importer import WINDOW
from coupon.bulk.scan import pages
from coupon.domain.codes import show
from coupon.ports.queue import Position, Queue
from coupon.ports.store import Store
from coupon.runtime.wiring import open_backend
from tests.e2e.deployment import ROOT, eventually, rss_peak_mb

COUPON = str(Path(sys.executable).parent / "coupon")
IMPATIENT = """
from coupon import cli
from coupon.runtime import retry
from coupon.cli import import_file
import_file.QUIET_S, retry.UNAVAILABLE_MAX_S = 0.5, 0.5
cli.main()
"""
"""A ``coupon`` that looks for a worker when half a second was quiet, and not five; nor waits longer for who is away."""
ROWS = 30_000
STARTED: list[subprocess.Popen[str]] = []
"""By the test that runs."""


@pytest.fixture
def cli(cli):
    """As everywhere; what the test has started is ended with it."""
    yield cli
    for process in STARTED:  # of a test that failed, too
        process.kill()
        process.communicate()
    STARTED.clear()


@pytest.fixture
def codes(tmp_path):
    """Of ``rows.csv``."""
    made = [f"CODE{number:015d}" for number in range(ROWS)]
    (tmp_path / "rows.csv").write_text("".join(f"{code}, 20260101, 2099-12-31\n" for code in made))
    return made


def start(cli, *arguments, program=(COUPON,)):
    """It hears SIGINT, also where these tests run in the background and ignore it, as ``nohup make test &`` does."""
    process = subprocess.Popen(
        [*program, *arguments],
        cwd=ROOT,
        env=cli.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    STARTED.append(process)
    return process


def start_impatient(cli, *arguments):
    return start(cli, *arguments, program=(sys.executable, "-c", IMPATIENT))


def stored(cli):
    store = open_backend(Store, cli.environ["COUPON_STORE_URL"])
    try:
        return [coupon.code for page in pages(store) for coupon in page]
    finally:
        store.close()


def one_sentence(ran, status, words):
    assert ran.returncode == status, ran.stderr
    assert ran.stdout == ""
    assert words in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert "Traceback" not in ran.stderr


def test_init_may_be_repeated_and_says_what_is_there(cli):
    for _ in range(2):
        answer = json.loads(cli.coupon("init", "--json").stdout)
        assert answer["topics"] == ["creation", "commands", "reindex", "invalidate", "rejections", "dead-letters"]
        assert answer["store"] == cli.environ["COUPON_STORE_URL"]
    assert "the topics creation, commands, reindex, invalidate, rejections, dead-letters" in cli.coupon("init").stdout


def test_init_waits_for_a_server_that_is_just_starting(cli, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.touch()
    cli.environ["COUPON_STORE_URL"] = f"sqlite:///{blocked}/store.db"
    one_sentence(cli.coupon("init", "--wait", "0", check=False), 3, str(blocked))
    waiting = start(cli, "init", "--wait", "30")
    assert "waiting for the store" in waiting.stderr.readline()
    blocked.unlink()
    waiting.communicate(timeout=30)
    assert waiting.returncode == 0


def test_the_lag_is_what_no_worker_has_applied(cli, tmp_path):
    (tmp_path / "rows.csv").write_text(f"{'A' * 19}, 20260101, 20261231\n")
    cli.coupon("import", str(tmp_path / "rows.csv"), "--no-wait")
    ran = cli.coupon("lag", "--json", check=False)
    report = json.loads(ran.stdout)
    assert ran.returncode == 1  # for the problems
    assert 0 <= report.pop("oldestSeconds") < 60
    assert report == {
        "commands": 0,
        "creation": 1,
        "reindex": 0,
        "invalidate": 0,
        "problems": [
            f"no living worker reads the topic {topic!r}" for topic in ("creation", "commands", "reindex", "invalidate")
        ],
    }
    cli.start_worker()
    eventually(lambda: cli.coupon("lag", "--json", check=False).returncode == 0, 20)
    assert json.loads(cli.coupon("lag", "--json").stdout)["creation"] == 0


def test_the_settings_are_shown_without_the_secret(cli):
    shown = cli.coupon("settings")
    assert cli.environ["COUPON_SECRET"] not in shown.stdout + shown.stderr
    document = json.loads(cli.coupon("settings", "--json").stdout)
    assert (document["COUPON_SECRET"], document["COUPON_TOPICS"]) == ("***", "single")


def test_what_cannot_work_is_one_sentence_and_no_traceback(cli, tmp_path):
    (tmp_path / "binary").write_bytes(b"PK\3\4\0\0\0")
    os.mkfifo(tmp_path / "pipe")
    both_ends = os.open(tmp_path / "pipe", os.O_RDWR)
    one_sentence(cli.coupon("import", str(tmp_path / "pipe"), check=False), 2, "cannot be read twice")
    os.close(both_ends)
    one_sentence(cli.coupon("import", str(tmp_path / "missing"), check=False), 2, "missing: No such file")
    one_sentence(cli.coupon("import", str(tmp_path), check=False), 2, "Is a directory")
    one_sentence(cli.coupon("import", str(tmp_path / "binary"), check=False), 2, "not a text file")
    one_sentence(cli.coupon("export", str(tmp_path / "no" / "where"), check=False), 2, "No such file")
    cli.environ["COUPON_TOPIC"] = "single"
    one_sentence(cli.coupon("settings", check=False), 2, "COUPON_TOPIC")


@pytest.mark.parametrize("url", ["foo://x", "sqlite:///cache.db?bar=1", "sqlite://cache.db"])
def test_the_settings_end_with_2_where_a_start_would(cli, url):
    cli.environ["COUPON_CACHE_URL"] = url
    one_sentence(cli.coupon("settings", check=False), 2, "COUPON_CACHE_URL")


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "x"), ("WEB_CONCURRENCY", "0"), ("COUPON_CALLER_HEADER", "X_Caller")]
)
def test_the_settings_end_with_2_where_the_web_side_would_not_start_or_not_know_a_caller(cli, name, value):
    cli.environ[name] = value
    one_sentence(cli.coupon("settings", check=False), 2, f"{name}={value!r}")


def test_the_settings_make_no_file_and_say_who_can_read_the_secret(cli, tmp_path):
    del cli.environ["COUPON_SECRET"]
    cli.environ["COUPON_SECRET_FILE"] = str(tmp_path / "new" / "secret")
    before = set(tmp_path.rglob("*"))
    assert "the first start makes a new one" in cli.coupon("settings").stderr
    assert set(tmp_path.rglob("*")) == before
    (tmp_path / "secret").write_text("a secret that others read")
    cli.environ["COUPON_SECRET_FILE"] = str(tmp_path / "secret")
    (tmp_path / "secret").chmod(0o644)
    assert "others can read the secret file" in cli.coupon("settings").stderr
    (tmp_path / "secret").chmod(0o600)
    assert cli.coupon("settings").stderr == ""


def test_what_was_imported_is_exported_and_indexed(cli, codes, tmp_path):
    file = str(tmp_path / "rows.csv")
    cli.start_worker()
    first = json.loads(cli.coupon("import", file, "--json").stdout)
    assert first | {"rows": ROWS, "new": ROWS, "unchanged": 0, "bad": 0, "rejectedFile": None} == first
    again = cli.coupon("import", file)
    assert f"0 new, {ROWS:,} unchanged, 0 bad" in again.stdout
    assert "nothing was changed" in again.stdout
    exported = cli.coupon("export")
    shown = sorted(map(show, codes))
    assert sorted(row["couponCode"] for row in csv.DictReader(exported.stdout.splitlines())) == shown
    cli.coupon("export", str(tmp_path / "out.jsonl"), "--json")
    assert sorted(json.loads(line)["couponCode"] for line in (tmp_path / "out.jsonl").read_text().splitlines()) == shown
    assert json.loads(cli.coupon("reindex", "--json").stdout)["indexed"] == ROWS


def test_an_import_killed_in_the_middle_is_completed_by_a_second_run(cli, codes, tmp_path):
    """It had published the rows of a window, which a worker applies while the second run looks."""
    file = str(tmp_path / "rows.csv")
    running = start_impatient(cli, "import", file)
    assert "none gives a sign of life" in running.stderr.readline()
    running.kill()
    running.communicate()
    assert WINDOW < ROWS
    cli.start_worker()
    eventually(lambda: len(stored(cli)) > 100, 30)
    second = json.loads(cli.coupon("import", file, "--json").stdout)
    assert second["new"] + second["unchanged"] == ROWS
    assert second["unchanged"] > 100
    assert sorted(stored(cli)) == codes


def test_an_import_says_that_there_is_no_worker_and_goes_on_when_there_is(cli, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("CODE000000000000001, 20260101, 20261231\n")
    assert cli.coupon("worker-alive", check=False).returncode == 1
    running = start_impatient(cli, "import", str(file))
    assert "none gives a sign of life" in running.stderr.readline()
    cli.start_worker()
    out, _ = running.communicate(timeout=30)
    assert "1 new" in out
    assert json.loads(cli.coupon("worker-alive", "--json").stdout) == {"alive": True}


def test_an_import_whose_rows_were_given_up_ends_and_says_where_to_look(cli, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("CODE000000000000001, 20260101, 20261231\n")
    running = start_impatient(cli, "import", str(file))
    queue = open_backend(Queue, cli.environ["COUPON_QUEUE_URL"])
    consumer = queue.consumer(["creation"], "worker")
    while not (deliveries := consumer.poll(10, 1)):
        pass
    consumer.commit({Position(d.topic, d.partition): d.offset + 1 for d in deliveries})  # applied by nobody
    queue.close()
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "coupon dead-letters list" in errors


def test_ctrl_c_leaves_cleanly(cli, codes, tmp_path):
    running = start_impatient(cli, "import", str(tmp_path / "rows.csv"))
    assert "none gives a sign of life" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=10)
    assert running.returncode == 130
    assert "run the same command again" in err
    assert "Traceback" not in err


def test_a_backend_that_goes_away_ends_an_import_with_3(cli, codes, tmp_path):
    cli.environ["COUPON_QUEUE_URL"] = "sqlite:////dev/null/queue.db"
    running = start_impatient(cli, "import", str(tmp_path / "rows.csv"))
    _, errors = running.communicate()
    assert running.returncode == 3
    assert errors.index("waiting for the queue") < errors.index("run the same command again")
    assert "Traceback" not in errors


def test_memory_stays_flat_whatever_the_file(cli, tmp_path):
    """200,000 rows, all their days different, every tenth a duplicate: under 120 MB. (With 1,000,000: 57 MB.)"""
    with (tmp_path / "rows.csv").open("w") as file:
        for number in range(200_000):
            file.write(f"CODE{number - number % 10 // 9:015d}, 20{number % 80 + 10}0101, 2099{number % 12 + 1:02d}28\n")
    running = start(cli, "import", str(tmp_path / "rows.csv"), "--no-wait", "--json")
    peak_mb = 0.0
    while running.poll() is None:
        peak_mb = rss_peak_mb(running.pid) or peak_mb
        time.sleep(0.05)
    out, _ = running.communicate()
    document = json.loads(out)
    assert (running.returncode, document["new"], document["bad"]) == (1, 180_000, 20_000)
    assert 0 < peak_mb < 120


def test_whoever_reads_an_export_may_stop(cli, codes, tmp_path):
    cli.start_worker()
    cli.coupon("import", str(tmp_path / "rows.csv"))
    running = start(cli, "export")
    running.stdout.readline()
    running.stdout.close()
    assert "Traceback" not in running.stderr.read()
    assert running.wait(10) == 1
    running.stderr.close()


@pytest.fixture
def spoilt(cli, tmp_path):
    """The code of one of three coupons: its row is none any more, and its history would move a terminal's cursor."""
    (tmp_path / "rows.csv").write_text("".join(f"CODE00000000000000{n}, 20260101, 20261231\n" for n in (1, 2, 3)))
    cli.start_worker()
    cli.coupon("import", str(tmp_path / "rows.csv"))
    with closing(sqlite3.connect(cli.environ["COUPON_STORE_URL"].removeprefix("sqlite:///"))) as file:
        body = "replace(body, '2026-01-01', '\\u001b[2Kno day')"
        file.execute(f"UPDATE coupons SET body = {body} WHERE code = 'CODE000000000000002'")
        file.commit()
    return "CODE000000000000002"


def named(ran, code):
    assert ran.returncode == 1, ran.stderr
    assert f"what is stored of {show(code)} is no coupon" in ran.stderr
    assert "\\x1b[2Kno day" in ran.stderr
    assert "\x1b" not in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_row_that_is_no_coupon_is_named_by_an_export_and_costs_no_other(cli, spoilt, tmp_path):
    named(cli.coupon("export", str(tmp_path / "out.jsonl"), "--json", check=False), spoilt)
    written = [json.loads(line)["couponCode"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(written) == [show("CODE000000000000001"), show("CODE000000000000003")]


def test_a_row_that_is_no_coupon_is_named_by_a_reindexing_and_costs_no_other(cli, spoilt):
    ran = cli.coupon("reindex", "--json", check=False)
    named(ran, spoilt)
    assert json.loads(ran.stdout) | {"indexed": 2, "unreadable": 1} == json.loads(ran.stdout)


def test_a_row_that_is_no_coupon_is_a_bad_row_of_an_import(cli, spoilt, tmp_path):
    ran = cli.coupon("import", str(tmp_path / "rows.csv"), check=False)
    named(ran, spoilt)
    assert "0 new, 2 unchanged, 1 bad" in ran.stdout


def test_a_bar_is_drawn_on_a_terminal_and_not_into_a_file(cli, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("CODE000000000000001, 20260101, 20261231\nbad\n")
    command = f"{COUPON} import {file} --no-wait --json"
    ran = subprocess.run(
        ["script", "-qec", f"{command} > {tmp_path}/out", "/dev/null"],
        cwd=ROOT,
        env={**cli.environ, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "importing" in ran.stdout
    assert "2 of 2 rows" in ran.stdout
    assert "left" in ran.stdout
    assert "line 2:" in ran.stdout
    assert json.loads((tmp_path / "out").read_text())["new"] == 1


def test_the_help_lists_every_command_without_loading_a_driver():
    program = "import coupon.cli, sys; coupon.cli.run(['--help']); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    for command in ("init", "import", "export", "reindex", "lag", "dead-letters", "settings", "worker-alive"):
        assert f"  {command}  " in ran.stdout
    assert not {"kafka", "pynamodb", "elasticsearch", "memcache", "rich.progress"} & set(ran.stdout.split())
