"""Traffic full of true rivals: several callers each hold their own idea of a coupon, and go on with it."""

from random import Random

from coupon.domain.clock import day_of
from coupon.domain.errors import Refused
from coupon.domain.model import ChangeCoupon, Coupon, CreateCoupons, Kind, transition
from coupon.domain.serialization import encode_command
from coupon.domain.topics import CREATION, LAYOUTS
from coupon.ports.queue import Message
from tests.worker.conftest import FIRST, LAST, World

CHANGES = (Kind.ISSUE, Kind.USE, Kind.CANCEL, Kind.CANCEL_USE)


class Rivals:
    """Publishes commands by hand, as web processes that cannot see each other would. ``sent`` are those."""

    def __init__(self, world: World, random: Random) -> None:
        self._world, self._random = world, random
        self.topics = LAYOUTS[world.settings.topics]
        self._ideas: dict[str, list[Coupon]] = {}
        self.sent: list[ChangeCoupon] = []

    def create(self, size: int, operation: str) -> list[str]:
        code_deriver = self._world.service.code_deriver
        chunk = CreateCoupons(
            operation=operation,
            amount=size,
            first=0,
            size=size,
            codes=(),
            secret_fingerprint=code_deriver.fingerprint,
            valid_from=FIRST,
            expire_at=LAST,
            accepted_at=self._world.now,
            actor="shop",
        )
        self.publish(CREATION, operation, chunk)
        return list(code_deriver.codes(operation, 0, size))

    def change(self, code: str) -> None:
        """Publish one command, on what the store has or on what some caller made of the coupon.

        Sometimes it is sent twice, or as another attempt of an operation that was sent before.
        """
        ideas, random = self._ideas.setdefault(code, []), self._random
        fresh = not ideas or random.random() < 0.1
        coupon = self._world.stored(code) if fresh else random.choice(ideas)
        command = self._command(coupon, fresh=fresh)
        if random.random() < 0.05 and self.sent and self.sent[-1].code == code:
            command = command._replace(operation=self.sent[-1].operation)
        try:
            after = transition(coupon, command)
        except Refused:
            return
        if not fresh:
            ideas.remove(coupon)
        ideas += [after, coupon] if random.random() < 0.15 else [after]
        del ideas[:-3]
        for _ in range(2 if random.random() < 0.05 else 1):
            self.publish(self.topics[command.kind], code, command)
        self.sent.append(command)

    def _command(self, coupon: Coupon, *, fresh: bool) -> ChangeCoupon:
        kind = self._random.choice(CHANGES)
        self._world.now += self._random.randrange(5)
        return ChangeCoupon(
            kind=kind,
            operation=f"{self._random.getrandbits(64):020x}",
            code=coupon.code,
            previous=coupon.last_operation,
            previous_version=coupon.version,
            accepted_at=self._world.now + self._random.randrange(-20, 20),  # clocks differ
            day=day_of(self._world.now, self._world.settings.timezone),
            user_id=f"user {self._random.randrange(3)}" if kind is Kind.ISSUE else None,
            actor="shop",
            reserved=True,
            number=coupon.next_number(fresh=fresh),
            previous_number=coupon.number_at(coupon.version),
        )

    def publish(self, topic: str, key: str, command: ChangeCoupon | CreateCoupons) -> None:
        self._world.backends.queue.publish([Message(topic, key, encode_command(command))])
