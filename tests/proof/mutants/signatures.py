"""Guards of signatures: what nobody with a key has signed has no effect, and stops nothing."""

from tests.proof.mutants.mutant import Mutant

QUEUE, TESTS = "coupon/runtime/signed_queue.py", "tests/unit/test_signed_queue.py"
FORGED = "tests/worker/test_forged_messages.py"
MUTANTS = [
    Mutant(
        "what is not signed is not believed",
        QUEUE,
        "return delivery if is_taken else _forged(delivery, NOT_SIGNED)",
        "return delivery",
    ),
    Mutant(
        "a signature of a former key is checked",
        QUEUE,
        "if not former.has_signed(topic, key, signed):",
        "if False:",
        f"{TESTS}::test_what_nobody_signed_with_a_former_key_is_not_believed",
    ),
    Mutant(
        "a signature of the present key is checked",
        "coupon/domain/signatures.py",
        "return signed if secrets.compare_digest(mac, value[_MAC_BEGIN:_MAC_END]) else None",
        "return signed",
        f"{TESTS}::test_what_nobody_signed_or_somebody_else_is_delivered_without_its_value",
    ),
    Mutant(
        "a signature is of one topic and key",
        "coupon/domain/signatures.py",
        'place = f"{len(topic)} {len(key)} {topic}{key}"',
        'place = ""',
        f"{FORGED}::test_a_message_of_ours_is_nowhere_else_what_it_was",
    ),
    Mutant(
        "what is forged is delivered without its value",
        QUEUE,
        'return delivery._replace(value=b"", forged=Forged(reason, delivery.value))',
        "return delivery._replace(forged=Forged(reason, delivery.value))",
        f"{TESTS}::test_what_nobody_signed_or_somebody_else_is_delivered_without_its_value",
    ),
    Mutant(
        "older messages are taken up to an offset",
        "coupon/runtime/older_messages.py",
        "return ends is None or offset < ends.get(show(position), 0)",
        "return True",
        f"{TESTS}::test_what_was_there_before_is_taken_and_nothing_behind_it",
    ),
    Mutant(
        "a key that is retired signs nothing more",
        QUEUE,
        "if not older.takes(signed.key_id, position, offset):",
        "if False:",
        f"{TESTS}::test_of_a_retired_key_is_taken_what_was_there_when_it_was_retired",
    ),
    Mutant(
        "who has another secret takes nothing for forged",
        QUEUE,
        "if older.keys and key_id not in older.keys:",
        "if False:",
        f"{TESTS}::test_a_process_with_another_secret_neither_publishes_nor_takes_ours_for_forged",
    ),
    Mutant(
        "a key that is missing here is waited for",
        QUEUE,
        "if signed.key_id in older.keys:",
        "if False:",
        f"{TESTS}::test_a_process_whose_keyring_is_older_waits_for_the_newer_one",
    ),
    Mutant(
        "what was polled is not skipped when the store does not answer",
        QUEUE,
        "            self._consumer.rewind()  # what was polled is not skipped\n",
        "",
        f"{TESTS}::test_while_the_store_is_away_no_message_is_forged_and_none_is_skipped",
    ),
    Mutant(
        "forged messages are in no row",
        "coupon/worker/step.py",
        "task.record_id: Failure(task.payload.reason, is_poison=False)",
        "task.record_id: Failure(task.payload.reason)",
        f"{FORGED}::test_any_number_of_forged_messages_in_a_row_pauses_nothing",
    ),
    Mutant(
        "a flood of forged messages fills no topic",
        "coupon/worker/forgeries.py",
        "kept = forged[: KEPT - self._kept]",
        "kept = forged",
        f"{FORGED}::test_a_flood_of_them_fills_neither_the_dead_letters_nor_the_log",
    ),
    Mutant(
        "a forged letter takes no command with it",
        "coupon/worker/dead_letter_policy.py",
        "for letter in letters if not letter.forged)",
        "for letter in letters)",
        f"{FORGED}::test_a_forged_copy_of_a_command_takes_none_with_it_that_builds_on_the_command",
    ),
    Mutant(
        "a replay signs nothing that is forged",
        "coupon/applying/dead_letters.py",
        "if dead_letter.forged and not sign:",
        "if False:",
        f"{FORGED}::test_a_replay_does_not_sign_what_is_forged_unless_it_was_looked_at",
    ),
    Mutant(
        "a restore leaves out what is forged",
        "coupon/bulk/queue_history.py",
        "if item.delivery.forged:",
        "if False:",
        f"{FORGED}::test_a_restore_leaves_out_what_is_forged_and_counts_it",
    ),
    Mutant(
        "after a loss of the store, the first signed message ends what may be unsigned",
        QUEUE,
        "        if not any(map(self._seals.is_ours, newest)):\n",
        "        if newest:\n",
        f"{FORGED}::test_where_the_store_was_lost_what_came_after_the_first_signed_message_is_not_taken_unsigned",
    ),
]
