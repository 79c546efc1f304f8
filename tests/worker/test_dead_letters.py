"""Messages that can never be applied are dead-lettered, and stop nothing."""

import pytest

from coupon.applying import dead_letters
from coupon.domain.errors import BackendRejected
from coupon.domain.model import Kind
from coupon.domain.serialization import encode_command
from coupon.ports.queue import Message
from tests.coupons import a_command, a_creation
from tests.worker.faults import Faulty

POISON = [
    b"x" * 999_000,
    b'"\xed\xa0\x80"',
    encode_command(a_creation(size=0)),
    encode_command(a_creation(size=-5)),
    encode_command(a_creation(accepted_at=10**18)),
    encode_command(a_creation(accepted_at=2**70)),
    encode_command(a_command(Kind.USE, "u", code="A" * 300)),
]


@pytest.mark.logs_error("dead letter")
def test_a_message_that_can_never_be_applied_is_dead_lettered_with_its_reason(world):
    (code,) = world.coupons()
    garbage = [b"{", b'{"kind":"burn"}', encode_command(a_command(Kind.USE, "u", code="Z" * 19))]
    world.backends.queue.publish([Message("commands", "k", value) for value in garbage])
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    world.look(world.worker)
    world.look(world.worker)
    dead = list(dead_letters.browse(world.backends.queue))
    assert [letter.value for letter in dead] == garbage
    assert ["not JSON" in dead[0].reason, dead[1].reason, dead[2].reason] == [
        True,
        "Invalid enum value 'burn' - at `$.kind`",
        "the store has no such coupon",
    ]
    assert world.stored(code).user_id == "ann"
    assert world.lag() == 0


@pytest.mark.logs_error("dead letter")
def test_a_dead_letter_replayed_is_applied_once(world):
    (code,) = world.coupons()
    message = encode_command(a_command(Kind.ISSUE, "i", previous=world.stored(code).last_operation, code=code))
    store = Faulty(world.backends.store)
    world.leave()
    shaken = world.but(store=store)
    store.before["save_many"] = [BackendRejected("too large")] * 2
    world.backends.queue.publish([Message("commands", code, message)])
    shaken.drain()
    (letter,) = dead_letters.browse(world.backends.queue)
    assert letter.reason == "too large"
    store.before.clear()
    for _ in range(2):
        dead_letters.replay(world.backends.queue, [letter])
        shaken.drain()
    assert world.stored(code).version == 2


@pytest.mark.logs_error("dead letter")
@pytest.mark.parametrize("error", [BackendRejected("too large"), OverflowError("int too big to convert")])
def test_one_command_that_the_store_refuses_or_stumbles_over_costs_no_other(world, error):
    codes = world.coupons(10)
    for code in codes:
        world.change(Kind.ISSUE, code, "ann")
    save_many = world.backends.store.save_many

    def all_but_one(coupons):
        if any(coupon.code == codes[3] for coupon in coupons):
            raise error
        return save_many(coupons)

    world.backends.store.save_many = all_but_one
    world.drain()
    assert [world.stored(code).issued for code in codes] == [code != codes[3] for code in codes]
    (letter,) = dead_letters.browse(world.backends.queue)
    assert letter.key == codes[3]
    assert str(error) in letter.reason


@pytest.mark.logs_error("dead letter")
@pytest.mark.parametrize("poison", POISON, ids=lambda value: value[:30].decode(errors="replace"))
def test_no_message_stops_those_behind_it(world, poison):
    (code,) = world.coupons()
    world.backends.queue.publish([Message("commands", code, poison)])
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    assert world.stored(code).user_id == "ann"
    (letter,) = dead_letters.browse(world.backends.queue)
    assert poison.startswith(letter.value)
    assert letter.whole == (letter.value == poison)
    assert world.lag() == 0


@pytest.mark.logs_error("dead letter")
def test_what_is_no_dead_letter_of_ours_does_not_hide_the_others(world):
    world.backends.queue.publish([Message("dead-letters", "k", b"hello"), Message("commands", "k", b"{")])
    world.drain()
    assert [letter.value for letter in dead_letters.browse(world.backends.queue)] == [b"{"]
