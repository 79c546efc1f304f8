"""One SQLite file: writes that wait together, and the lock of its writers."""

import fcntl
import os
import shutil
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from backends.sqlite import SqliteFile
from backends.testing.timing import until
from coupon.domain.errors import BackendRejected, BackendUnavailable

SCHEMA = "CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY) STRICT"
WRITERS = 8
SOON = 10.0


@pytest.fixture
def opened(tmp_path):
    files = []

    def open_(timeout_s=5.0):
        files.append(SqliteFile(str(tmp_path / "data" / "t.db"), SCHEMA, timeout_s, "normal"))
        return files[-1]

    yield open_
    for file in files:
        file.close()


@pytest.fixture
def file(opened):
    return opened()


def add(number):
    return lambda db: db.execute("INSERT INTO t VALUES (?)", (number,)).rowcount


def numbers(file):
    with file.read() as db:
        return [number for (number,) in db.execute("SELECT n FROM t ORDER BY n")]


def together(file, clock, works):
    """The outcomes of the works, all of which waited for one transaction. An error is an outcome, too."""
    go = threading.Event()

    def outcome(work):
        try:
            return file.write_together(work)
        except (BackendRejected, BackendUnavailable, sqlite3.Error) as error:
            return error

    with ThreadPoolExecutor(1 + len(works)) as pool:
        pool.submit(outcome, lambda _: go.wait(SOON))
        until(lambda: file_is_locked(file))
        futures = [pool.submit(outcome, work) for work in works]
        until(lambda: clock.waiting == len(works))
        go.set()
        return [future.result() for future in futures]


def file_is_locked(file):
    with open(f"{file.path}.lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_threads_that_wait_share_a_transaction(file, group_clock, monkeypatch):
    assert numbers(file) == []
    began, write = [], file.write
    monkeypatch.setattr(file, "write", lambda deadline: began.append(1) or write(deadline))
    assert together(file, group_clock, [add(n) for n in range(WRITERS)]) == [1] * WRITERS
    assert len(began) == 2  # the one that they waited for, and theirs
    assert numbers(file) == list(range(WRITERS))


def test_work_that_fails_is_rolled_back_alone(file, group_clock):
    assert numbers(file) == []

    def refused(db):
        add(100)(db)
        raise BackendRejected("no")

    def broken(db):
        add(101)(db)
        add(1)(db)  # is there by then

    outcomes = together(file, group_clock, [add(1), refused, broken, add(2)])
    assert [type(outcome) for outcome in outcomes] == [int, BackendRejected, BackendUnavailable, int]
    assert numbers(file) == [1, 2]


def test_a_file_that_cannot_be_locked_is_tried_once(file, group_clock, monkeypatch):
    assert numbers(file) == []
    began, write = [], file.write

    def locked(deadline):
        began.append(1)
        if len(began) > 1:
            raise BackendUnavailable("locked")
        return write(deadline)

    monkeypatch.setattr(file, "write", locked)
    outcomes = together(file, group_clock, [add(1), add(2)])
    assert [type(outcome) for outcome in outcomes] == [BackendUnavailable] * 2
    assert len(began) == 2  # the one that they waited for, and theirs


def test_work_that_fails_alone_is_rolled_back(file):
    with pytest.raises(BackendUnavailable, match="UNIQUE"):
        file.write_together(lambda db: add(1)(db) and add(1)(db))
    assert numbers(file) == []


def test_where_the_disk_is_full_nobody_is_told_that_it_was_written(file, group_clock):
    with file.write() as db:
        db.execute("CREATE TABLE large (body BLOB)")

    def large(db):
        db.execute("PRAGMA max_page_count = 1")  # of this connection
        db.execute("INSERT INTO large VALUES (zeroblob(1000000))")

    outcomes = together(file, group_clock, [add(1), large, add(2)])
    assert [type(outcome) for outcome in outcomes] == [BackendUnavailable] * 3
    assert numbers(file) == []


def test_whoever_cannot_wait_longer_is_told_so(opened):
    slow, quick = opened(), opened(timeout_s=0.1)
    with slow.write(), pytest.raises(BackendUnavailable, match=r"locked for 0\.1 s"):
        quick.write_together(add(1))
    assert quick.write_together(add(1)) == 1


def test_what_was_told_to_have_failed_is_not_written_later(opened):
    file = opened(timeout_s=2.0)
    assert numbers(file) == []
    outcomes = {}

    def write(number):
        try:
            outcomes[number] = file.write_together(add(number))
        except BackendUnavailable as error:
            outcomes[number] = str(error)

    with open(f"{file.path}.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threads = []
        for number, pause_s in ((1, 0.4), (2, 1.0), (3, 1.3)):  # the last one leads when the first one's time is over
            threads.append(threading.Thread(target=write, args=(number,)))
            threads[-1].start()
            time.sleep(pause_s)
    for thread in threads:
        thread.join(SOON)
    assert outcomes[3] == 1
    assert "locked for 2.0 s" in outcomes[1]
    assert "locked for 2.0 s" in outcomes[2]
    assert numbers(file) == [3]


def test_a_lock_file_that_cannot_be_opened_closes_nobody_elses(file):
    file.write_together(add(1))
    lock = file.path.with_name(f"{file.path.name}.lock")
    lock.unlink()
    lock.mkdir()
    with pytest.raises(BackendUnavailable):
        file.write_together(add(2))
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
    with pytest.raises(BackendUnavailable):
        file.write_together(add(2))
    for other in others:
        os.close(other)  # raises when it was closed
    lock.rmdir()
    assert file.write_together(add(2)) == 1


def test_a_forked_process_has_a_lock_of_its_own(opened):
    file = opened(timeout_s=0.2)
    file.write_together(add(1))
    with file.write():
        child = os.fork()
        if child == 0:
            try:
                SqliteFile(str(file.path), SCHEMA, 0.1, "normal").write_together(add(2))
            except BackendUnavailable:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    child = os.fork()
    if child == 0:  # the same object: its lock is not the parent's
        with file.write():
            time.sleep(2)
        os._exit(0)
    until(lambda: file_is_locked(file))
    with pytest.raises(BackendUnavailable, match="another process"):
        file.write_together(add(3))
    assert os.waitpid(child, 0)[1] == 0
    assert file.write_together(add(3)) == 1


def test_a_folder_that_was_replaced_has_another_lock(file, opened):
    file.write_together(add(1))
    shutil.rmtree(file.path.parent)
    file.write_together(add(2))
    assert numbers(file) == [2]
    with file.write(), pytest.raises(BackendUnavailable):
        opened(timeout_s=0.1).write_together(add(3))


def test_a_new_thread_reads_while_another_writes(file):
    file.write_together(add(1))
    with file.write(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(numbers, file).result(SOON) == [1]
