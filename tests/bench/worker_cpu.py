"""CPU of a command in the worker on memory backends, beside PynamoDB saving one item on condition."""

import uuid
from collections.abc import Callable
from itertools import islice

from backends.store.dynamodb_model import bind
from coupon import settings
from coupon.drain import Worker
from coupon.model import Kind
from coupon.service import Caller, CommandService
from coupon.topics import all_topics
from coupon.wiring import open_backends
from tests.bench.figure import ROUNDS, Figure, cpu_us
from tests.bench.web_cpu import FIRST, LAST

COMMANDS = 2_000
SAVES = 100


def figures(environ: dict[str, str], dynamodb: str) -> list[Figure]:
    """An issue, of a batch of 500."""
    figure = Figure("CPU of an issue in the worker", "a conditional save of PynamoDB", "µs", "≤ 0.2")
    loaded = settings.load(environ)
    backends = open_backends(loaded)
    backends.store.create()
    backends.search.create()
    backends.queue.create(all_topics(loaded.topics))
    service, worker = CommandService(backends, loaded), Worker(backends, loaded)
    creation = service.create(ROUNDS * COMMANDS, FIRST, LAST, Caller("bench"))
    while worker.run_once(poll_s=0):
        pass
    codes = iter(service.codes(creation, 0, creation.amount))
    save = saver(dynamodb)
    for round_ in range(ROUNDS):
        for code in islice(codes, COMMANDS):
            service.change(Kind.ISSUE, code, "ann", Caller("bench"))
        spent = cpu_us(lambda _: worker.run_once(poll_s=0), range(COMMANDS // loaded.batch_max + 2))
        figure.ours.append(spent * (COMMANDS // loaded.batch_max + 2) / COMMANDS)
        figure.yardstick.append(cpu_us(save, (f"{round_}/{number}" for number in range(SAVES))))
    return [figure]


def saver(dynamodb: str) -> Callable[[str], object]:
    """Creates an item of the key if there is none: one call, as PynamoDB's own documentation has it."""
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
            code, issued=False, used=False, valid_from=FIRST, expire_at=LAST, created_at=0, modified_at=0, batch=1,
            version=1, revision=1, history="[]",
        )  # fmt: skip
        item.save(condition=model.code.does_not_exist())

    return save
