"""What the worker meets in the queue and in the store that nobody of ours has written."""

import pytest

from coupon import dead_letters
from coupon.model import Kind
from coupon.ports.queue import Message
from coupon.topics import OWED
from coupon.wire import dump


@pytest.mark.parametrize("topic", OWED)
@pytest.mark.parametrize("owed", [["a b"], ["A" * 18], [""], [None], "A" * 19, ["A" * 19] * 501, {"A" * 19: 1}])
def test_what_is_owed_and_is_no_list_of_codes_is_put_aside_and_stops_nothing(world, topic, owed):
    (code,) = world.coupons()
    world.backends.queue.publish([Message(topic, code, dump(owed))])
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    assert [letter.topic for letter in dead_letters.browse(world.backends.queue)] == [topic]
    assert world.stored(code).user_id == "ann"
    assert world.lag() == 0
