"""``coupon lag``."""

import click

from coupon.cli.context import session
from coupon.cli.output import json_option, result
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendUnavailable
from coupon.domain.topics import GROUP, OUTBOX, command_topics
from coupon.ports.store import Store
from coupon.runtime.diagnostics import Symptom, missing, of_age, of_queue, of_store, of_workers, oldest_s
from coupon.runtime.older_messages import OlderMessages
from coupon.runtime.wiring import Backends
from coupon.runtime.worker_registry import living


@click.command(short_help="How much the workers have still to do, and what keeps them from it.")
@json_option
def command(as_json: bool) -> int:
    """Messages of each topic that no worker has committed yet, the age of the oldest command, and problems.

    A creation has a message for each 500 coupons. The exit status is 1 when there is a problem, such as a topic without
    a living worker.
    """
    with session() as (settings, backends):
        layout = settings.topics
        topics = [topic for topic in [*command_topics(layout), *OUTBOX] if topic not in missing(backends.queue, layout)]
        lags = {topic: backends.queue.lag([topic], GROUP) for topic in topics}
        age_s = oldest_s(backends.queue, layout)
        symptoms = [
            *of_queue(backends.queue, layout),
            *_others(backends, CodeDeriver(settings.secret), layout),
            *of_age(age_s),
        ]
    lines = [f"{topic:<12} {lag:>9,}" for topic, lag in lags.items()]
    if age_s is not None:
        lines.append(f"the oldest command has waited for {age_s:,.1f} s")
    lines += [symptom.whole for symptom in symptoms]
    document = lags | {"oldestSeconds": age_s, "problems": [symptom.whole for symptom in symptoms]}
    result(as_json, document, "\n".join(lines))
    return 1 if symptoms else 0


def _others(backends: Backends, code_deriver: CodeDeriver, layout: str) -> list[Symptom]:
    """The problems that the cache and the store show; none of a backend that is unavailable."""
    try:
        workers = of_workers(living(backends.cache, code_deriver).values(), layout)
    except BackendUnavailable as error:
        workers = [Symptom("nobody knows of the workers", str(error))]
    return [*workers, *of_store(backends.store), *_of_signatures(backends.store)]


def _of_signatures(store: Store) -> list[Symptom]:
    """Whether messages need a signature; none while the store is unavailable."""
    try:
        older = OlderMessages(store).present()
    except BackendUnavailable:
        return []
    return [] if older.has_bound else [Symptom("messages are taken that are not signed", "run coupon init")]
