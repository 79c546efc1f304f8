"""Guards of the acceptance, and of the cache entries and the circuit breaker that others use, too."""

from tests.proof.mutants.mutant import Mutant

MUTANTS = [
    Mutant(
        "add-only cache fill",
        "coupon/acceptance/reservations.py",
        "tokens, entries = self._cache.write_many(writes, [epoch.name for epoch in epochs])",
        "for write in writes:\n"
        "            if write.token is None:\n"
        "                self._cache._cache.put(write.key, write.value, write.ttl_s)\n"
        "        tokens, entries = self._cache.write_many(writes, [epoch.name for epoch in epochs])\n"
        "        tokens = [\n"
        '            getattr(self._cache.get(write.key), "token", None) if write.token is None else token\n'
        "            for write, token in zip(writes, tokens)\n"
        "        ]",
        "tests/unit/test_reservations.py::test_of_two_that_missed_the_same_entry_one_reserves",
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
        "tokens, entries = self._cache.write_many(writes, [epoch.name for epoch in epochs])",
        "tokens, entries = self._cache.write_many(writes, [epoch.name for epoch in epochs])\n"
        "        for write in writes:\n"
        "            if write.token is not None:\n"
        "                self._cache._cache.put(write.key, write.value, write.ttl_s)\n"
        "        tokens = [\n"
        '            token if write.token is None else getattr(self._cache.get(write.key), "token", None)\n'
        "            for write, token in zip(writes, tokens)\n"
        "        ]",
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
        "self._entries.confirmed(code, value), self._ttl_s, token)",
        'self._entries.confirmed(code, value), self._ttl_s, getattr(self._cache.get(cache_key(code)), "token", None))',
        "tests/unit/test_reservations.py::test_the_entry_of_another_is_left_alone",
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
        "if token is not None and snapshot.epoch in lost:",
        "if False:",
        "tests/unit/test_reservations.py::test_a_wipe_between_the_read_and_the_reservation_is_seen",
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
        "coupon/acceptance/grouped.py",
        "            if is_confirmed:\n",
        "            if True:\n",
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
        "return self._outcome(decided)",
        "return ChangeRef(decided.operation, decided.number, decided.code)",
    ),
    Mutant(
        "a key is bound to a request",
        "coupon/acceptance/service.py",
        "            self._bind(attempt)\n",
        "            pass\n",
    ),
    Mutant(
        "a group binds keys",
        "coupon/acceptance/grouped.py",
        "return [attempt for attempt in attempts if attempt.bound or",
        "return [attempt for attempt in attempts if True or",
        "tests/unit/test_grouped.py::test_a_key_of_another_request_is_looked_at_alone",
    ),
    Mutant(
        "a group builds on what is acknowledged",
        "coupon/acceptance/reservations.py",
        "elif isinstance(known := self._decoded(code, entry), Confirmed):",
        "elif isinstance(known := self._decoded(code, entry), Confirmed | Provisional):",
    ),
    Mutant(
        "a group has one command on a coupon",
        "coupon/acceptance/grouped.py",
        "            decided = [attempt for code, attempt in attempts.items() if"
        " self._is_decided(attempt, snapshots.get(code))]\n",
        "            decided = [attempt for attempt in group if"
        " self._is_decided(attempt, snapshots.get(attempt.request.code))]\n",
        "tests/unit/test_grouped.py::test_the_second_command_on_a_coupon_is_accepted_alone",
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
        "                self._unbind(attempt)\n                raise Refused(refused.reason, snapshot",
        "                raise Refused(refused.reason, snapshot",
        "tests/web/test_idempotency.py::test_a_request_that_lost_the_race_and_is_refused_then_binds_no_key",
    ),
    Mutant(
        "a circuit closes when what had failed works",
        "coupon/runtime/circuit_breaker.py",
        "        return self._timer() - self._since < self._pause_ms",
        "        return self._timer() - self._since < min(self._pause_ms, PAUSE_MS)",
        "tests/worker/test_outbox.py::test_search_that_takes_nothing_is_tried_ever_more_rarely_though_it_answers_a_ping",
    ),
    Mutant(
        "an entry is of this coupon, and ours",
        "coupon/runtime/cache_entries.py",
        "if code_deriver.seal(key, body) != seal:",
        "if False:",
        "tests/unit/test_reservations.py::test_an_entry_of_one_coupon_is_none_of_another",
    ),
]
