from coupon.applying.batch import COMMANDS_A_COUPON_MAX, PART_MAX, BadMessage, OutboxEntry, split, task
from coupon.applying.outbox import messages
from coupon.domain.model import CHUNK, Kind
from coupon.domain.serialization import dump, encode_command
from coupon.ports.queue import Delivery
from tests.coupons import a_command, a_creation


def deliveries(*commands):
    return [Delivery("commands", 0, n, "k", encode_command(command)) for n, command in enumerate(commands)]


def test_parts_keep_the_order_and_lose_nothing():
    tasks = [task(d) for d in deliveries(*(a_creation(size=300, amount=300) for _ in range(10)))]
    cut = list(split(tasks))
    assert [item for part in cut for item in part] == tasks
    assert all(sum(item.weight for item in part) <= PART_MAX for part in cut)


def test_a_coupon_is_not_in_a_part_more_often_than_its_history_can_recognise():
    tasks = [task(d) for d in deliveries(*(a_command(Kind.USE, f"u{n}") for n in range(COMMANDS_A_COUPON_MAX + 1)))]
    assert [len(part) for part in split(tasks)] == [COMMANDS_A_COUPON_MAX, 1]


def test_no_task_makes_no_part():
    assert list(split([])) == []


def test_what_cannot_be_read_is_told_apart():
    assert isinstance(task(Delivery("commands", 0, 0, "k", b"{")).payload, BadMessage)
    assert isinstance(task(Delivery("reindex", 0, 0, "k", b"{")).payload, BadMessage)
    for codes in ([1], ["a b"], ["A" * 20], ["A" * 19] * (CHUNK + 1)):
        assert isinstance(task(Delivery("reindex", 0, 0, "k", dump(codes))).payload, BadMessage)
    for topic in ("reindex", "invalidate"):
        (message,) = messages(topic, ["A" * 19, "B" * 19])
        assert task(Delivery(topic, 0, 0, message.key, message.value)).payload == OutboxEntry(
            topic, ("A" * 19, "B" * 19)
        )
