"""Take out each guard of the protocol, one at a time, and see that the simulation finds it:
``python -m tests.proof.mutants [--seeds 3000] [NAME…]``. A guard that no promise of the simulation needs (it keeps an
entry of the cache right a little longer, or its case is too rare) names the test that misses it.

A check that cannot fail proves nothing. Each guard is taken out of a copy of the source, by its very text; a text that
is no longer there, once, is an error. Exit status 1 when a guard's absence was not found.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
COPIED = ("coupon", "backends", "conf", "tests", "setup.cfg")


class Mutant(NamedTuple):
    """``text`` of ``file`` is replaced by ``other``: what the guard keeps out is in. ``test`` is for a guard that the
    simulation does not miss."""

    guard: str
    file: str
    text: str
    other: str
    test: str = ""


MUTANTS = [
    Mutant(
        "condition",
        "backends/store/memory.py",
        "if (stored.revision if stored else 0) != coupon.revision - 1:",
        "if stored is not None and coupon.revision == 1:",
    ),
    Mutant(
        "create-if-absent",
        "backends/store/memory.py",
        "if (stored.revision if stored else 0) != coupon.revision - 1:",
        "if coupon.revision != 1 and (stored.revision if stored else 0) != coupon.revision - 1:",
    ),
    Mutant(
        "history check",
        "coupon/domain/protocol.py",
        "if coupon.entry(operation) is not None:",
        "if False:",
    ),
    Mutant(
        "previous check: version",
        "coupon/domain/protocol.py",
        "AttemptStatus(AttemptState.SUPERSEDED, Reason.RIVAL_WON) if behind else AttemptStatus(AttemptState.NEXT)",
        "AttemptStatus(AttemptState.NEXT)",
        "tests/unit/test_protocol.py::test_a_rival_with_a_higher_number_does_not_apply_beside_the_winner",
    ),
    Mutant(
        "previous check: operation",
        "coupon/domain/protocol.py",
        "if behind < len(coupon.history) and coupon.history[-1 - behind].operation != command.previous:",
        "if False:",
        "tests/unit/test_protocol.py::test_a_predecessor_known_to_be_rejected_is_not_waited_for",
    ),
    Mutant(
        "commit after the effect",
        "coupon/worker/worker.py",
        "            self._step.run(part)\n",
        "            self._checkpoint.done(part)\n            self.flush()\n            self._step.run(part)\n",
    ),
    Mutant(
        "external version",
        "backends/search/memory.py",
        'if old is not None and old["version"] >= new["version"]:',
        "if False:",
    ),
    Mutant(
        "add-only cache fill",
        "coupon/acceptance/reservations.py",
        "token, cached = self._cache.add_and_get(cache_key(code), value, self._ttl_s, epoch.name)",
        "self._cache._cache.put(cache_key(code), value, self._ttl_s)\n"
        '        token = getattr(self._cache.get(cache_key(code)), "token", None)\n'
        "        cached = self._cache.get(epoch.name)",
    ),
    Mutant(
        "codes from the operation",
        "coupon/domain/chunks.py",
        "list(code_deriver.codes(command.operation, command.first, command.size))",
        "list(code_deriver.codes(code_deriver.operation(command.operation, None), command.first, command.size))",
    ),
    Mutant(
        "operation from the key",
        "coupon/acceptance/creations.py",
        "        operation = self._code_deriver.operation(caller.name, caller.idempotency_key, words)\n",
        "        operation = self._code_deriver.operation(caller.name, None)\n",
    ),
    Mutant(
        "nobody builds on what is not acknowledged",
        "coupon/acceptance/reservations.py",
        "case Confirmed(coupon):",
        "case Confirmed(coupon) | Provisional(coupon):",
    ),
    Mutant(
        "compare and set in the cache",
        "coupon/acceptance/reservations.py",
        "return self._cache.replace(key, value, token, self._ttl_s)",
        'return self._cache._cache.put(key, value, self._ttl_s) or getattr(self._cache.get(key), "token", None)',
    ),
    Mutant(
        "a refusal is checked against the store",
        "coupon/acceptance/service.py",
        "if snapshot is not None and self._reservations.is_behind(snapshot):",
        "if False:",
        "tests/worker/test_cache_unavailable.py::test_a_stale_cache_never_refuses_what_the_store_allows",
    ),
    Mutant(
        "a confirmation is of one's own reservation",
        "coupon/acceptance/reservations.py",
        "reservation.token, confirmed)",
        'getattr(self._cache.get(cache_key(reservation.code)), "token", None), confirmed)',
        "tests/unit/test_reservations.py::test_the_entry_of_another_is_left_alone",
    ),
    Mutant(
        "what lost is looked at in the cache",
        "coupon/worker/change_handler.py",
        "self._invalidator.invalidate(self._codes_to_invalidate(tasks, applied))",
        "pass",
    ),
    Mutant(
        "what may have lost before is looked at again",
        "coupon/worker/change_handler.py",
        "if verdict is not Verdict.APPLIED or not command.reserved:",
        "if verdict is Verdict.REJECTED or not command.reserved:",
        "tests/worker/test_cache_unavailable.py::test_a_worker_that_died_between_a_rejection_and_the_cache_forgets_it_the_second_time",
    ),
    Mutant(
        "what was accepted without the cache is looked at",
        "coupon/worker/change_handler.py",
        "if verdict is not Verdict.APPLIED or not command.reserved:",
        "if verdict is not Verdict.APPLIED:",
        "tests/worker/test_cache_unavailable.py::test_a_command_accepted_without_the_cache_takes_what_is_past_out_of_it",
    ),
    Mutant(
        "an entry with what was rejected is wrong",
        "coupon/domain/lineage.py",
        "if version > stored.version and expected.number_at(version) <= stored.settled:",
        "if False:",
        "tests/unit/test_reservations.py::test_what_is_past_or_on_another_branch_or_settled_is_wrong",
    ),
    Mutant(
        "an entry of another branch is wrong",
        "coupon/domain/lineage.py",
        "if theirs is None or (ours is not None and not _is_same(theirs, ours)):",
        "if theirs is None:",
        "tests/worker/test_lost_entries.py::test_who_lost_to_a_command_without_the_cache_goes_on_with_what_won",
    ),
    Mutant(
        "what the cache is owed is written down",
        "coupon/worker/cache_invalidator.py",
        "enqueue(self._queue, INVALIDATE, codes)",
        "pass",
        "tests/worker/test_cache_unavailable.py::test_what_lost_while_the_cache_was_away_is_forgotten_by_the_next_worker",
    ),
    Mutant(
        "an offset waits for a waiting command",
        "coupon/worker/checkpoint.py",
        "for position, offset in deferred:",
        "for position, offset in ():",
    ),
    Mutant(
        "a predecessor on another topic is waited for",
        "coupon/domain/protocol.py",
        "            if wait:\n",
        "            if False:\n",
    ),
    Mutant(
        "a rejection is recorded",
        "coupon/domain/protocol.py",
        "return (Verdict.DUPLICATE, coupon) if after == coupon else (Verdict.REJECTED, after)",
        "return Verdict.REJECTED, coupon",
    ),
    Mutant(
        "a rejection is of one attempt",
        "coupon/domain/model.py",
        "if r.operation == operation and number_of(r) == number",
        "if r.operation == operation",
        "tests/unit/test_protocol.py::test_what_builds_on_a_second_attempt_is_not_lost_with_the_first",
    ),
    Mutant(
        "what had waited waits on when its part fails",
        "coupon/worker/step.py",
        "        except BackendError:\n            self._defer_again(deferred)\n",
        "        except BackendError:\n            pass\n",
        "tests/worker/test_predecessors.py::test_what_had_waited_is_not_committed_when_its_part_fails_at_the_end",
    ),
    Mutant(
        "what came from the outbox is not put into it again",
        "coupon/worker/indexer.py",
        'raise StillUnavailable("search")',
        "enqueue(self._queue, REINDEX, [coupon.code for coupon in coupons])",
        "tests/worker/test_outbox.py::test_what_came_from_the_outbox_is_never_put_into_it_again",
    ),
    Mutant(
        "a circuit closes when what had failed works",
        "coupon/runtime/circuit_breaker.py",
        "        return self._timer() - self._since < self._pause_ms",
        "        return self._timer() - self._since < min(self._pause_ms, PAUSE_MS)",
        "tests/worker/test_outbox.py::test_search_that_takes_nothing_is_tried_ever_more_rarely_though_it_answers_a_ping",
    ),
    Mutant(
        "a coupon is waited for",
        "coupon/worker/change_handler.py",
        "elif verdict is None and not arrivals[index].coupon:",
        "elif verdict is None:",
        "tests/worker/test_deferred.py::test_commands_wait_for_their_coupon_in_their_order",
    ),
    Mutant(
        "what is behind one that waits, waits",
        "coupon/worker/arrivals.py",
        "return Arrival(is_behind, is_behind)",
        "return Arrival(False, False)",
        "tests/worker/test_a_coupon_that_comes_late.py::"
        "test_what_waits_behind_another_is_not_rejected_when_the_coupon_comes_before_it_is_looked_at",
    ),
    Mutant(
        "what others delivered counts",
        "coupon/worker/horizons.py",
        "self._reported.get(position, 0)",
        "0",
        "tests/worker/test_deferred.py::test_two_workers_whose_commands_wait_for_nothing_do_not_wait_for_each_other",
    ),
    Mutant(
        "a wait does not begin anew",
        "coupon/worker/horizons.py",
        "        self._in_flight.clear()\n",
        "        self._in_flight.clear()\n        self._horizons.clear()\n",
        "tests/worker/test_deferred.py::test_the_wait_for_a_predecessor_does_not_begin_anew_at_a_rewind",
    ),
    Mutant(
        "time does not run while what is waited for gets on",
        "coupon/worker/horizons.py",
        "horizon.at[position], horizon.since = reached, self._timer()",
        "horizon.at[position] = reached",
        "tests/worker/test_deferred.py::test_the_wait_for_a_predecessor_goes_on_while_what_it_may_be_in_is_being_delivered",
    ),
    Mutant(
        "a letter is dead-lettered and counted once",
        "coupon/worker/dead_letter_policy.py",
        "elif task.record_id not in self._known:",
        "else:",
        "tests/worker/test_dead_letter_policy.py::test_one_bad_message_while_commits_fail_is_dead_lettered_once",
    ),
    Mutant(
        "letters are counted by partition",
        "coupon/worker/dead_letter_policy.py",
        "if failure.is_poison and in_a_row[task.position] >= self._in_a_row_max:",
        "if failure.is_poison and sum(in_a_row.values()) >= self._in_a_row_max:",
        "tests/worker/test_dead_letter_policy.py::test_bad_messages_of_several_partitions_make_no_row",
    ),
    Mutant(
        "another secret's creations are no poison",
        "coupon/worker/creation_handler.py",
        "Failure(OTHER_SECRET.format(chunk.secret_fingerprint[:20]), is_poison=False)",
        "Failure(OTHER_SECRET.format(chunk.secret_fingerprint[:20]))",
        "tests/worker/test_dead_letter_policy.py::test_creations_of_another_secret_are_dead_lettered_and_stop_nothing",
    ),
    Mutant(
        "what builds on a dead letter is dead-lettered",
        "coupon/worker/change_handler.py",
        "self._operations[index] = command.operation",
        "pass",
        "tests/worker/test_dead_letter_policy.py::test_what_builds_on_a_command_that_was_dead_lettered_comes_back_with_it",
    ),
    Mutant(
        "a miss is fenced",
        "coupon/acceptance/reservations.py",
        "        if is_passed:\n",
        "        if True:\n",
    ),
    Mutant(
        "a miss is claimed",
        "coupon/acceptance/reservations.py",
        "return self._put(code, None, UNFENCED) if epoch is None else self._from_store(code, None, epoch)",
        "return self._from_store(code, None, epoch)",
    ),
    Mutant(
        "the queue's end is read when the claim is there",
        "coupon/acceptance/reservations.py",
        "return self._put(code, None, UNFENCED) if epoch is None",
        "return self._put(code, None, Claim(self._fences.of(code))) if epoch is None",
        "tests/worker/test_lost_entries.py::test_a_claim_knows_of_all_that_was_accepted_before_it_was_there",
    ),
    Mutant(
        "one's own reservation is looked at again",
        "coupon/acceptance/reservations.py",
        "if coupon.last_operation == operation and self._is_believed(coupon):",
        "if coupon.last_operation == operation:",
        "tests/unit/test_reservations.py::"
        "test_ones_own_reservation_is_not_gone_on_with_when_it_may_build_on_what_was_lost",
    ),
    Mutant(
        "a provisional entry that ran out is fenced",
        "coupon/acceptance/reservations.py",
        "        return self._put(code, cached.token, UNFENCED)\n",
        "        return self._from_store(code, cached.token)\n",
    ),
    Mutant(
        "a loss is seen when something was reserved",
        "coupon/acceptance/reservations.py",
        "if token is None or self._losses.was_excluded(epoch, cached):",
        "if True:",
    ),
    Mutant(
        "an epoch has a fence",
        "coupon/acceptance/cache_losses.py",
        "if not self._passed(epoch.fence):",
        "if False:",
        "tests/worker/test_lost_entries.py::test_none_of_several_coupons_is_believed_to_be_as_the_store_has_it[wipe]",
    ),
    Mutant(
        "an eviction ends an epoch",
        "coupon/acceptance/cache_losses.py",
        "if epoch.evicted is None or epoch.evicted == self._cache.evicted(epoch.name):",
        "if True:",
        "tests/worker/test_lost_entries.py::test_none_of_several_coupons_is_believed_to_be_as_the_store_has_it[evict]",
    ),
    Mutant(
        "a miss is no proof while workers are behind for an entry's life",
        "coupon/acceptance/cache_losses.py",
        "if not self._is_young():",
        "if False:",
    ),
    Mutant(
        "yes is told when the confirmation took place",
        "coupon/acceptance/service.py",
        "if not self._reservations.confirm(reservation):",
        "if not self._reservations.confirm(reservation) and False:",
        "tests/worker/test_lost_entries.py::test_nobody_is_told_yes_whose_reservation_another_command_replaced",
    ),
    Mutant(
        "without the cache, what was published before is waited for",
        "coupon/acceptance/uncached.py",
        "if not self._passed(code):",
        "if False:",
    ),
    Mutant(
        "without the cache, the command itself is waited for",
        "coupon/acceptance/uncached.py",
        "return self._told(decided)",
        "return ChangeRef(decided.operation, decided.number, decided.code)",
    ),
    Mutant(
        "a claim that does not know of a command is wrong",
        "coupon/worker/cache_invalidator.py",
        "return entry.fence is not None if isinstance(entry, Claim)",
        "return False if isinstance(entry, Claim)",
        "tests/unit/test_cache_invalidator.py::test_a_claim_with_a_fence_of_before_is_taken_for_wrong",
    ),
    Mutant(
        "a claim comes in the place of what is wrong",
        "coupon/worker/cache_invalidator.py",
        "if self._cache.replace(cache_key(code), claim, cached.token, self._ttl_s) is not None:",
        "if self._cache.remove(cache_key(code), cached.token):",
        "tests/unit/test_cache_invalidator.py::test_in_the_place_of_what_is_wrong_comes_a_claim",
    ),
    Mutant(
        "an entry that changes is looked at again",
        "coupon/worker/cache_invalidator.py",
        "            stored = read(self._store, [code]).coupons.get(code)\n",
        "            return\n",
        "tests/unit/test_cache_invalidator.py::test_an_entry_that_changes_while_it_is_looked_at_is_looked_at_again",
    ),
    Mutant(
        "what is not beyond the settled numbers is settled",
        "coupon/domain/protocol.py",
        "if number > coupon.settled:",
        "if True:",
        "tests/unit/test_protocol.py::test_an_outcome_stays_rejected_however_many_rejections_there_were_since",
    ),
    Mutant(
        "also when it would be its turn",
        "coupon/domain/protocol.py",
        "if found.state is not AttemptState.OPEN:",
        "if found.state is not AttemptState.OPEN and coupon.last_operation != command.previous:",
        "tests/unit/test_protocol.py::test_a_number_that_was_settled_is_refused_even_when_it_would_be_its_turn",
    ),
    Mutant(
        "a chain from the store begins a round",
        "coupon/domain/model.py",
        "return (self.settled // ROUND + self.version + 1) * ROUND if fresh else self.settled + 1",
        "return self.settled + 1",
        "tests/unit/test_protocol.py::test_a_late_command_of_an_old_chain_takes_no_fresh_chain_with_it",
    ),
    Mutant(
        "rejections are kept by number",
        "coupon/domain/protocol.py",
        "key=lambda it: (number_of(it), it.operation))[-REJECTIONS_MAX:]",
        "key=lambda it: 0)[-REJECTIONS_MAX:]",
        "tests/unit/test_protocol.py::test_of_the_rejections_those_with_the_highest_numbers_are_kept_in_whatever_order_they_came",
    ),
    Mutant(
        "a key is bound to a request",
        "coupon/acceptance/service.py",
        "            self._bind(request, bound)\n",
        "            pass\n",
    ),
    Mutant(
        "a key is bound to a creation",
        "coupon/acceptance/creations.py",
        "binding = self._bind(caller, operation)",
        "binding = None",
    ),
    Mutant(
        "a request that was refused binds no key",
        "coupon/acceptance/service.py",
        "                self._unbind(request, bound)\n                raise Refused(refused.reason, snapshot",
        "                raise Refused(refused.reason, snapshot",
        "tests/web/test_idempotency.py::test_a_request_that_lost_the_race_and_is_refused_then_binds_no_key",
    ),
    Mutant(
        "an operation has the request's words",
        "coupon/domain/codes.py",
        'f"{caller}\\0{idempotency_key}\\0{request}").digest()',
        'f"{caller}\\0{idempotency_key}").digest()',
    ),
    Mutant(
        "the worker knows a key that was used",
        "coupon/domain/protocol.py",
        "return coupon.same_key(operation) is not None",
        "return False",
        "tests/unit/test_protocol.py::test_a_key_that_was_used_for_another_request_is_told_so",
    ),
    Mutant(
        "an entry is of this coupon, and ours",
        "coupon/runtime/cache_entries.py",
        "if code_deriver.seal(key, body) != seal:",
        "if False:",
        "tests/unit/test_reservations.py::test_an_entry_of_one_coupon_is_none_of_another",
    ),
    Mutant(
        "a restore applies only what was committed",
        "coupon/bulk/restore.py",
        "self._changes(self._recorded.committed_changes())",
        "self._changes(self._recorded.waiting_changes())",
    ),
    Mutant(
        "a marker tells of a whole chunk only",
        "coupon/applying/apply.py",
        "other in coupons and coupons[other].created_by == chunk.operation for other in chunk.codes[:-1]",
        "True for other in chunk.codes[:-1]",
        "tests/unit/test_marker.py",
    ),
    Mutant(
        "a marker tells of its own operation only",
        "coupon/bulk/importer.py",
        "marker.created_by == operation and marker.batch == WHOLE",
        "marker.batch == WHOLE",
        "tests/unit/test_importer.py::test_a_whole_chunk_of_another_import_is_not_taken_for_ones_own",
    ),
    Mutant(
        "what lost is written down",
        "coupon/worker/change_handler.py",
        "publish_losers(self._queue, losers(commands, applied))",
        "pass",
        "tests/worker/test_restored_rivals.py::test_who_was_accepted_first_and_came_last_does_not_win_in_a_restore",
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
        "what was dead-lettered stays aside in a restore",
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
    Mutant(
        "what search is owed is written down",
        "coupon/worker/indexer.py",
        "enqueue(self._queue, REINDEX, [coupon.code for coupon in coupons])",
        "pass",
    ),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3_000, help="so many are tried")
    parser.add_argument("guards", nargs="*", help="only these")
    arguments = parser.parse_args()
    survivors = 0
    for mutant in MUTANTS:
        if not arguments.guards or mutant.guard in arguments.guards:
            found = told(mutant, arguments.seeds)
            print(f"{mutant.guard:<45} {found or 'NOT FOUND'}", flush=True)
            survivors += found is None
    return 1 if survivors else 0


def told(mutant: Mutant, seeds: int) -> str | None:
    """By which promise, and after how many seeds, the simulation finds it, or by which test; None when it does not."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(folder, name))
        file = Path(folder, mutant.file)
        source = file.read_text()
        assert source.count(mutant.text) == 1, f"{mutant.file} holds {source.count(mutant.text)} times: {mutant.text}"
        file.write_text(source.replace(mutant.text, mutant.other))
        command = [sys.executable, "-m", "tests.proof.simulation", "--stop", "--seeds", str(seeds)]
        if mutant.test:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", mutant.test]
        environ = {**os.environ, "PYTHONPATH": folder}
        ran = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if mutant.test:
        assert ran.returncode in (0, 1), ran.stdout + ran.stderr
        return mutant.test if ran.returncode else None
    last = re.search(r"([\d,]+) seeds, (\d+) broke a promise(.*)", ran.stdout)
    assert last, ran.stdout + ran.stderr
    return f"seed {int(last[1].replace(',', '')) - 1}:{last[3]}" if last[2] != "0" else None


if __name__ == "__main__":
    sys.exit(main())
