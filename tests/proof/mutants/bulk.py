"""Guards of an import, an export and a restore."""

from tests.proof.mutants.mutant import Mutant

MUTANTS = [
    Mutant(
        "a restore applies only what was committed",
        "coupon/bulk/restore.py",
        "self._changes(self._recorded.committed_changes())",
        "self._changes(self._recorded.waiting_changes())",
    ),
    Mutant(
        "a marker tells of its own operation only",
        "coupon/bulk/importer.py",
        "marker.created_by == operation and marker.chunk_complete",
        "marker.chunk_complete",
        "tests/unit/test_importer.py::test_a_whole_chunk_of_another_import_is_not_taken_for_ones_own",
    ),
    Mutant(
        "a coupon that somebody holds is not imported as a free one",
        "coupon/bulk/importer.py",
        "and not row.is_issued]",
        "]",
        "tests/unit/test_importer.py::test_a_row_of_a_coupon_that_somebody_holds_makes_no_free_one",
    ),
    Mutant(
        "no spreadsheet runs a cell of an export",
        "coupon/bulk/exporter.py",
        "if coupon.user_id and not raw:",
        "if False:",
        "tests/unit/test_round_trip.py::test_a_spreadsheet_runs_nothing_of_an_export",
    ),
    Mutant(
        "no file is written through a link",
        "coupon/bulk/files.py",
        "os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW",
        "os.O_CREAT",
        "tests/unit/test_rejected.py::test_no_link_is_followed",
    ),
    Mutant(
        "a restore leaves out what lost",
        "coupon/bulk/replay.py",
        "if item.attempt not in self._losers:",
        "if True:",
        "tests/worker/test_restored_rivals.py::test_who_was_accepted_first_and_came_last_does_not_win_in_a_restore",
    ),
    Mutant(
        "what is older than a loser is applied before it",
        "coupon/bulk/restore.py",
        "        if highest:  #",
        "        if False:  #",
        "tests/worker/test_replay.py::test_what_is_older_than_a_loser_is_not_lost_to_its_number",
    ),
    Mutant(
        "a restore publishes no dead letter",
        "coupon/bulk/queue_history.py",
        "and not self._is_dead_lettered(item)",
        "",
        "tests/worker/test_replay.py::test_what_was_dead_lettered_stays_aside_and_what_was_replayed_is_applied",
    ),
    Mutant(
        "what is not committed is left to the workers",
        "coupon/bulk/queue_history.py",
        "{p: Span(self.begins[p], done) for p, done in self.committed.items()}",
        "{p: Span(self.begins[p], self.ends[p]) for p, done in self.committed.items()}",
        "tests/worker/test_replay.py::test_a_committed_command_proves_what_was_not_committed_and_no_other",
    ),
]
