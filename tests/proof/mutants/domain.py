"""Guards of the rules: what a command finds, and what its outcome is."""

from tests.proof.mutants.mutant import Mutant

MUTANTS = [
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
        "codes from the operation",
        "coupon/domain/chunks.py",
        "list(code_deriver.codes(command.operation, command.first, command.size))",
        "list(code_deriver.codes(code_deriver.operation(command.operation, None), command.first, command.size))",
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
        "what is not beyond the settled numbers is settled",
        "coupon/domain/protocol.py",
        "if number > coupon.settled:",
        "if True:",
        "tests/unit/test_protocol.py::test_an_outcome_stays_rejected_however_many_rejections_there_were_since",
    ),
    Mutant(
        "also when it would be its turn",
        "coupon/domain/protocol.py",
        "if status.state is not AttemptState.OPEN:",
        "if status.state is not AttemptState.OPEN and coupon.last_operation != command.previous:",
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
        "key=lambda each: (number_of(each), each.operation))",
        "key=lambda each: 0)",
        "tests/unit/test_protocol.py::test_of_the_rejections_those_with_the_highest_numbers_are_kept_in_whatever_order_they_came",
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
        "a web process applies only what is next",
        "coupon/domain/protocol.py",
        "if coupon.ahead >= AHEAD_MAX or classify(coupon, command).state is not AttemptState.NEXT:",
        "if coupon.ahead >= AHEAD_MAX:",
    ),
    Mutant(
        "web processes are half a history ahead of the workers at most",
        "coupon/domain/protocol.py",
        "if coupon.ahead >= AHEAD_MAX or classify(coupon, command).state is not AttemptState.NEXT:",
        "if classify(coupon, command).state is not AttemptState.NEXT:",
        "tests/unit/test_protocol.py::test_a_web_process_leaves_all_else_to_the_worker",
    ),
]
