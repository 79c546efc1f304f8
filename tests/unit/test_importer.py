"""Importing, with the worker driven by hand: the importer's pause is the worker's turn."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from coupon.acceptance.requests import Caller
from coupon.acceptance.service import CommandService
from coupon.bulk import importer as importing
from coupon.bulk.importer import Counts
from coupon.cli import import_file
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import CHUNK, Day, Kind
from coupon.domain.serialization import decode_command
from coupon.domain.topics import CREATION, all_topics
from coupon.runtime import retry, settings
from coupon.runtime.wiring import open_backends
from coupon.worker.worker import Worker, join
from tests.coupons import a_coupon
from tests.unit.desk import DAYS, Desk, a_desk, code
from tests.worker.faults import Faulty, away


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    with a_desk(tmp_path) as desk:
        yield desk


def test_the_codes_of_the_file_are_kept_exactly_with_their_days(desk):
    assert desk.run(f"{code(1)}, 20260101, 20260131", f"{code(2)}, 20260201, 20260228") == Counts(new=2)
    assert (desk.stored(1).valid_from, desk.stored(1).expire_at) == ("2026-01-01", "2026-01-31")
    assert (desk.stored(2).valid_from, desk.stored(2).expire_at) == ("2026-02-01", "2026-02-28")
    assert len(desk.backends.store.scan(100).coupons) == 2


def test_importing_again_changes_nothing(desk):
    lines = [f"{code(n)}, {DAYS}" for n in range(1_200)]
    assert desk.run(*lines) == Counts(new=1_200)
    before = desk.backends.store.scan(10_000)
    assert desk.run() == Counts(unchanged=1_200)
    assert desk.worker.run_once(poll_s=0) == 0
    assert desk.backends.store.scan(10_000) == before


def test_an_issued_and_a_used_coupon_are_never_reset(desk):
    desk.run(f"{code(1)}, {DAYS}", f"{code(2)}, {DAYS}")
    desk.change(Kind.ISSUE, 1, "ann")
    desk.change(Kind.ISSUE, 2, "ben")
    desk.change(Kind.USE, 2)
    before = desk.stored(1), desk.stored(2)
    assert desk.run() == Counts(unchanged=2)
    assert desk.run(f"{code(1)}, 20260101, 20260102", f"{code(2)}, {DAYS}", f"{code(3)}, {DAYS}") == Counts(1, 1, 1)
    assert desk.reasons() == {1: "the coupon exists already with other days: 2026-01-01 to 2099-12-31"}
    assert (desk.stored(1), desk.stored(2)) == before


def test_what_the_sample_of_a_window_does_not_show_is_neither_reset_nor_counted_as_new(desk, monkeypatch):
    monkeypatch.setattr(importing, "SAMPLE", 10)
    desk.run(f"{code(1)}, {DAYS}", f"{code(2)}, {DAYS}")
    desk.change(Kind.ISSUE, 1, "ann")
    before = desk.stored(1), desk.stored(2)
    lines = [f"{code(n)}, {DAYS}" for n in range(100)]
    lines[2] = f"{code(2)}, 20260101, 20260102"
    assert desk.run(*lines) == Counts(new=98, unchanged=1, bad=1)
    assert desk.reasons() == {3: "the coupon exists already with other days: 2026-01-01 to 2099-12-31"}
    assert (desk.stored(1), desk.stored(2)) == before


def test_of_a_window_of_which_some_are_there_only_the_others_are_published(desk):
    desk.run(f"{code(0)}, {DAYS}")
    assert desk.run(*(f"{code(n)}, {DAYS}" for n in range(1_000))) == Counts(new=999, unchanged=1)
    assert desk.stored(998).creation_size == 999


@pytest.mark.parametrize("another", [False, True])
def test_only_a_chunk_of_which_another_import_brought_some_is_read_back(desk, monkeypatch, another):
    if another:
        desk.run(f"{code(1)}, {DAYS}", pause=None)
    get_many, read = desk.backends.store.get_many, list[str]()
    monkeypatch.setattr(desk.backends.store, "get_many", lambda codes: read.extend(codes) or get_many(codes))
    lines = [f"{code(n)}, {'20260101' if n < 400 else '20260102'}, 20991231" for n in range(800)]
    assert desk.run(*lines) == Counts(new=800 - another, unchanged=int(another))
    assert (read.count(code(2)), read.count(code(500))) == (another, 0)  # neither is of the sample


def test_progress_is_told_while_a_window_is_applied(desk):
    desk.worker = Worker(desk.backends, replace(desk.loaded, batch_max=7), join(desk.backends, desk.loaded))
    lines, seen = [f"{code(n)}, 202601{n % 28 + 1:02d}, 20991231" for n in range(280)], list[int]()
    assert desk.run(*lines, on_progress=lambda counts: seen.append(counts.rows)) == Counts(new=280)
    assert seen == sorted(seen)
    assert len(set(seen)) >= 4


def test_without_waiting_each_row_is_compared_before(desk, monkeypatch):
    monkeypatch.setattr(importing, "SAMPLE", 1)
    desk.run(f"{code(1)}, {DAYS}", f"{code(2)}, {DAYS}")
    lines = [f"{code(n)}, {DAYS}" for n in range(5)]
    lines[2] = f"{code(2)}, 20260101, 20260102"
    assert desk.run(*lines, pause=None) == Counts(new=3, unchanged=1, bad=1)


def test_a_row_of_a_coupon_that_somebody_holds_makes_no_free_one(desk):
    desk.run(f"{code(1)}, {DAYS}", f"{code(2)}, {DAYS}")
    header = "couponCode,userId,validFrom,expireAt"
    held = f"ann,{DAYS}"
    assert desk.run(
        header, f"{code(1)},{held}", f"{code(2)},ann,20260101,20260102", f"{code(3)},{held}", f"{code(4)},,{DAYS}"
    ) == Counts(new=1, unchanged=1, bad=2)
    assert desk.reasons() == {
        3: "the coupon exists already with other days: 2026-01-01 to 2099-12-31",
        4: "the coupon was issued: it is not imported, because an import creates coupons that nobody holds",
    }
    assert desk.stored(3) is None


def test_a_coupon_issued_between_two_imports_on_their_way_is_not_reset(desk):
    """The second import was published before the first was applied."""
    desk.run(f"{code(1)}, {DAYS}", pause=None)
    desk.run(pause=None)
    desk.worker.run_once(poll_s=0)
    desk.change(Kind.ISSUE, 1, "ann")
    desk.work()
    assert desk.stored(1).user_id == "ann"


def test_bad_rows_are_reported_with_their_lines_and_the_good_ones_imported(desk):
    counts = desk.run(
        "code,from,to",
        f"{code(1)}, {DAYS}",
        f"{code(1)[1:]}, {DAYS}",
        "",
        f"{code(2)}, 20260132, 20991231",
        f"{code(1)[:5]}-{code(1)[5:11]}-{code(1)[11:].lower()}, {DAYS}",
        f"{code(2)}, {DAYS}",
        f"{code(1)}, 20260101, 20260102",
    )
    assert counts == Counts(new=2, bad=4)
    assert list(desk.reasons()) == [3, 5, 6, 8]
    assert desk.reasons()[6] == desk.reasons()[8] == "the code is a duplicate of the one on line 2"
    assert desk.stored(1).expire_at == "2099-12-31"


def test_rows_of_many_days_over_many_windows_arrive_each_once(desk, monkeypatch):
    monkeypatch.setattr(importing, "WINDOW", 100)
    lines = [f"{code(n)}, 202601{n % 28 + 1:02d}, 20991231" for n in range(1_000)]
    seen = []
    assert desk.run(*lines, on_progress=lambda counts: seen.append(counts.rows)) == Counts(new=1_000)
    assert seen == sorted(seen)
    assert seen[-1] == 1_000
    days = {coupon.code: coupon.valid_from for coupon in desk.backends.store.scan(2_000).coupons}
    assert days == {code(n): Day(f"2026-01-{n % 28 + 1:02d}") for n in range(1_000)}


def test_no_more_rows_than_a_window_are_on_their_way(desk, monkeypatch):
    monkeypatch.setattr(importing, "WINDOW", 100)
    on_the_way = []

    def pause(_: int) -> None:
        published = sum(decode_command(d.value).size for d in desk.backends.queue.browse(CREATION))
        on_the_way.append(published - len(desk.backends.store.scan(10_000).coupons))
        desk.work()

    assert desk.run(*(f"{code(n)}, {DAYS}" for n in range(1_000)), pause=pause) == Counts(new=1_000)
    assert max(on_the_way) == 100


def test_what_another_import_brought_with_other_days_meanwhile_is_told(desk):
    """An import of other days is still in the queue: this one only learns of it when the worker has come so far."""
    desk.run(f"{code(1)}, 20260101, 20260131", f"{code(2)}, {DAYS}", pause=None)
    assert desk.run(f"{code(1)}, {DAYS}", f"{code(2)}, {DAYS}", f"{code(3)}, {DAYS}") == Counts(1, 1, 1)
    assert desk.reasons() == {1: "the coupon exists already with other days: 2026-01-01 to 2026-01-31"}


def test_a_whole_chunk_of_another_import_is_not_taken_for_ones_own(desk):
    """Its marker is this one's, too."""
    desk.run(f"{code(2)}, 20260101, 20260131", pause=None)
    assert desk.run(*(f"{code(n)}, {DAYS}" for n in range(3))) == Counts(new=2, bad=1)
    assert desk.reasons() == {3: "the coupon exists already with other days: 2026-01-01 to 2026-01-31"}


def test_a_marker_that_another_import_brought_does_not_end_the_wait_early(desk):
    """The chunk's last code is in the store, its other codes are not."""
    looks = []

    def pause(_: int) -> None:
        if not looks:
            rival = a_coupon(code(2), valid_from=Day("2026-01-01"), expire_at=Day("2099-12-31"))
            assert not desk.backends.store.save_many([rival])
        elif len(looks) == 3:
            desk.work()
        looks.append(len(desk.backends.store.scan(10).coupons))

    assert desk.run(*(f"{code(n)}, {DAYS}" for n in range(3)), pause=pause) == Counts(new=2, unchanged=1)
    assert looks == [1, 1, 1, 3]


def test_with_the_markers_of_others_there_and_no_worker_the_wait_grows_longer(desk, monkeypatch):
    """However many they are: it is by its length that an operator is told."""
    monkeypatch.setattr(importing, "LOOKED_FOR", 2)
    monkeypatch.setattr(importing, "SAMPLE", 1)
    days = [f"202601{n + 1:02d}, 20991231" for n in range(5)]
    lines = [f"{code(10 * n + k)}, {days[n]}" for n in range(5) for k in range(2)]
    rivals = [a_coupon(code(10 * n + 1), valid_from=Day("2026-01-01"), expire_at=Day("2099-12-31")) for n in range(5)]
    seen = []

    def pause(quiet: int) -> None:
        if not seen:
            assert not desk.backends.store.save_many(rivals)
        seen.append(quiet)
        if len(seen) == 30:
            desk.work()

    assert desk.run(*lines, pause=pause) == Counts(new=5, unchanged=1, bad=4)
    assert seen[5:30] == list(range(seen[5], seen[5] + 25))


def test_what_has_arrived_is_told_when_the_rest_is_given_up(desk):
    lines = [f"{code(1)}, 20260101, 20260131", f"{code(2)}, {DAYS}"]

    class GivenUp(Exception):
        pass

    def pause(quiet: int) -> None:
        if quiet == 0:
            rival = a_coupon(code(2), valid_from=Day("2026-01-01"), expire_at=Day("2026-01-02"))
            desk.backends.store.save_many([rival])
        elif quiet > 50:
            raise GivenUp

    with pytest.raises(GivenUp):
        desk.run(*lines, pause=pause)
    assert desk.reasons() == {2: "the coupon exists already with other days: 2026-01-01 to 2026-01-02"}


def test_an_import_that_was_stopped_is_completed_by_the_next(desk, monkeypatch):
    monkeypatch.setattr(importing, "WINDOW", 100)
    lines = [f"{code(n)}, {DAYS}" for n in range(1_000)]

    def stop(_: int) -> None:
        desk.work()
        if desk.turns > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.run(*lines, pause=stop)
    there = len(desk.backends.store.scan(10_000).coupons)
    assert 0 < there < 1_000
    assert desk.run() == Counts(new=1_000 - there, unchanged=there)
    assert len(desk.backends.store.scan(10_000).coupons) == 1_000


def test_a_store_that_is_away_for_a_moment_is_waited_for_and_for_long_ends_the_import(desk, monkeypatch):
    """As DynamoDB is when it throttles, or when others write more than it can take."""
    desk.backends = replace(desk.backends, store=(store := Faulty(desk.backends.store)))
    monkeypatch.setattr(retry, "PAUSE_S", 0.001)
    store.before["get_many"] = failures = [away() for _ in range(3)]
    assert desk.run(f"{code(1)}, {DAYS}") == Counts(new=1)
    assert (failures, desk.away) == ([], [("store", "injected")])
    monkeypatch.setattr(retry, "UNAVAILABLE_MAX_S", 0)
    failures.append(away())
    with pytest.raises(BackendUnavailable):
        desk.run()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_queue_that_is_away_for_a_moment_is_waited_for_and_rows_are_counted_once(desk, monkeypatch, moment):
    queue = Faulty(desk.backends.queue)
    desk.service = CommandService(replace(desk.backends, queue=queue), desk.loaded)
    monkeypatch.setattr(retry, "PAUSE_S", 0.001)
    failures = [away() for _ in range(3)]
    getattr(queue, moment)["publish"] = failures
    lines = [f"{code(number)}, {DAYS}" for number in range(CHUNK + 2)]
    assert desk.run(*lines) == Counts(new=CHUNK + 2)
    assert (failures, desk.away) == ([], [("queue", "injected")])
    desk.work()
    assert {coupon.version for coupon in desk.backends.store.scan(CHUNK * 2).coupons} == {1}


def test_a_queue_that_is_away_while_one_looks_for_what_was_given_up_is_waited_for(desk, monkeypatch, capsys):
    queue = Faulty(desk.backends.queue)
    queue.before["lag"] = failures = [away(), away()]
    monkeypatch.setattr(retry, "PAUSE_S", 0.001)
    monkeypatch.setattr(import_file, "QUIET_S", 0)
    pause = import_file.WorkerWait(replace(desk.backends, queue=queue), desk.loaded)
    pause(1)
    assert failures == []
    assert capsys.readouterr().err == "waiting for the queue: injected\n"


def test_a_queue_that_is_away_for_long_ends_the_import(desk, monkeypatch):
    monkeypatch.setattr(retry, "UNAVAILABLE_MAX_S", 0)
    desk.write(f"{code(1)}, {DAYS}")
    desk.backends.queue.close()
    with pytest.raises(BackendUnavailable):
        desk.run()
    assert desk.stored(1) is None


def test_an_import_waits_while_as_much_is_queued_as_may_be(tmp_path, monkeypatch):
    loaded = settings.load(
        {"COUPON_CONF": "conf/test.env", "COUPON_CREATIONS_MAX": "1000", "COUPON_LOG_LEVEL": "error"}
    )
    backends = open_backends(loaded)
    backends.queue.create(all_topics(loaded.topics))
    desk = Desk(loaded, backends, tmp_path)
    desk.service.create(2_000, Day("2026-01-01"), Day("2026-01-31"), Caller("shop"))
    naps = []

    def nap(seconds):
        naps.append(seconds)
        desk.work()

    monkeypatch.setattr(importing.time, "sleep", nap)
    monkeypatch.setattr("coupon.acceptance.creation_backlog.RECENT_MS", 0)
    assert desk.run(*(f"{code(n)}, {DAYS}" for n in range(100)), pause=None) == Counts(new=100)
    assert naps
    assert [role for role, _ in desk.away] == ["workers"]
    backends.close()
