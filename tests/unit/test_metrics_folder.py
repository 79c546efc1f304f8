"""Web processes hand their numbers over: whoever is asked adds up all of them, those that have ended too."""

import os
import stat

import pytest

from coupon.runtime import metrics_folder
from coupon.runtime.instruments import Counter, Gauge
from coupon.runtime.metrics_folder import MetricsFolder

COUNTED, NOW = Counter("test_counted", "", "x"), Gauge("test_now", "")


@pytest.fixture
def folder(tmp_path):
    return metrics_folder.make(str(tmp_path))


def in_a_process(folder, count):
    """A child counts, hands over and ends; its process id."""
    pid = os.fork()
    if not pid:
        try:
            COUNTED.add("a", by=count)
            NOW.set(1)
            MetricsFolder(folder).hand_over()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return pid


def read(folder):
    numbers = MetricsFolder(folder).read()
    return sum(cell[0] for cell in numbers["test_counted"].values()), sum(
        cell[0] for cell in numbers["test_now"].values()
    )


def test_it_is_private_whatever_the_umask(tmp_path):
    kept = os.umask(0)
    try:
        folder = metrics_folder.make(str(tmp_path))
    finally:
        os.umask(kept)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_all_processes_are_added_up(folder):
    before = read(folder)
    in_a_process(folder, 2)
    in_a_process(folder, 3)
    assert read(folder) == (before[0] * 3 + 5, before[1] * 3 + 2)  # each child began with what this one had


def test_the_counters_of_one_that_ended_stay_and_its_gauges_do_not(folder):
    pids = [in_a_process(folder, number) for number in (2, 3)]
    counted, _ = read(folder)
    for pid in pids:
        metrics_folder.end(folder, pid)
        metrics_folder.end(folder, pid)
    assert read(folder) == (counted, 0)
    assert [file.name for file in folder.iterdir()] == [metrics_folder.ENDED]


def test_a_file_that_was_read_before_its_process_was_kept_counts_once(folder):
    pid = in_a_process(folder, 2)
    [file] = folder.iterdir()
    counted, body = read(folder)[0], file.read_bytes()
    metrics_folder.end(folder, pid)
    file.write_bytes(body)  # as a reader has it who was there before
    assert read(folder)[0] == counted


def test_one_without_a_file_is_nothing_to_keep(folder):
    metrics_folder.end(folder, 1)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_read_stops_no_master(folder):
    pid = in_a_process(folder, 1)
    (folder / metrics_folder.ENDED).mkdir()
    metrics_folder.end(folder, pid)
