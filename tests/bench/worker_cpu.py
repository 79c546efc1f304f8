"""CPU of a command in the worker on memory backends, beside PynamoDB saving one item on condition.

Neither goes to a server. What a socket costs differs by a factor of two from one run to the next. That would hide a
change of ours from ``make bench-check``.
"""

import uuid
from collections.abc import Callable
from itertools import islice
from typing import Any

from botocore.awsrequest import AWSResponse

from backends.store.dynamodb_model import bind
from coupon.acceptance.requests import Caller
from coupon.acceptance.service import CommandService
from coupon.domain.model import Kind
from coupon.worker.worker import Worker, join
from tests.bench.figure import ROUNDS, Figure, cpu_us
from tests.bench.place import Place, opened, quiet
from tests.bench.web_cpu import FIRST, LAST, coupons

COMMANDS = 1_000
SAVES = 50


def figures(place: Place) -> list[Figure]:
    """An issue, of a batch of 500."""
    figure = Figure(
        "CPU of an issue in the worker", "µs", "a conditional save of PynamoDB, its HTTP left out", at_most=0.2
    )
    save = saver(place.services.dynamodb)
    with quiet(), opened(place.in_memory()) as (loaded, backends):
        codes = coupons(loaded, backends, ROUNDS * COMMANDS)
        service, worker = CommandService(backends, loaded), Worker(backends, loaded, join(backends, loaded))
        for round_ in range(ROUNDS):
            for code in islice(codes, COMMANDS):
                service.change(Kind.ISSUE, code, "ann", Caller("bench"))
            figure.ours.append(cpu_us(lambda worker: drain(worker, COMMANDS), [worker]) / COMMANDS)
            figure.against.append(cpu_us(save, (f"{round_}/{number}" for number in range(SAVES))))
    return [figure]


def drain(worker: Worker, messages: int) -> None:
    """Apply all of them, which are there."""
    left = messages
    while left > 0:
        left -= worker.run_once(poll_s=1)


def saver(dynamodb: str) -> Callable[[str], object]:
    """Creates an item of the key if there is none, as PynamoDB's own documentation has it; the call is answered where
    botocore would send it."""
    model = bind(
        f"bench{uuid.uuid4().hex[:8]}",
        host=f"http://{dynamodb}",
        region="local",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    model.create_table(wait=True)

    def save(code: str) -> None:
        item = model(
            code, issued=False, used=False, valid_from=FIRST, expire_at=LAST, created_at=0, modified_at=0,
            creation_size=1, version=1, revision=1, history="[]",
        )  # fmt: skip
        item.save(condition=model.code.does_not_exist())

    save("the first one asks the server what the table is")
    client = model._get_connection().connection.client
    client.meta.events.register("before-send.dynamodb.PutItem", _saved)
    return save


class _Nothing:
    """What a server says of a save."""

    def stream(self) -> list[bytes]:
        return [b"{}"]


def _saved(request: Any, **_: Any) -> AWSResponse:
    return AWSResponse(request.url, 200, {}, _Nothing())
