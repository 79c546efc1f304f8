"""The collaborators of a worker, and which of them know each other. The worker says when each of them acts."""

from collections.abc import Sequence
from dataclasses import dataclass

from coupon.applying.batch import BadMessage, ForgedMessage, OutboxEntry
from coupon.domain.clock import Clock
from coupon.domain.codes import CodeDeriver
from coupon.domain.model import ChangeCoupon, CreateCoupons
from coupon.domain.topics import command_topics, is_ordered
from coupon.ports.queue import Consumer
from coupon.runtime.heartbeat import Heartbeat
from coupon.runtime.settings import Settings
from coupon.runtime.tracing import open_tracer
from coupon.runtime.wiring import Backends
from coupon.worker.arrivals import Arrivals
from coupon.worker.cache_invalidator import CacheInvalidator
from coupon.worker.change_handler import ChangeHandler
from coupon.worker.checkpoint import Checkpoint
from coupon.worker.creation_handler import CreationHandler
from coupon.worker.dead_letter_policy import DeadLetterPolicy
from coupon.worker.deferred import DeferredCommands
from coupon.worker.horizons import Horizons
from coupon.worker.indexer import Indexer
from coupon.worker.outbox_handler import OutboxHandler
from coupon.worker.places import Places
from coupon.worker.ready_commands import ReadyCommands
from coupon.worker.spans import with_spans
from coupon.worker.step import Step, bad_messages, forged_messages
from coupon.worker.tally import Tally
from coupon.worker.turns import Turns


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Those of one worker that it calls itself."""

    heartbeat: Heartbeat
    turns: Turns
    deferred: DeferredCommands
    ready: ReadyCommands
    horizons: Horizons
    policy: DeadLetterPolicy
    indexer: Indexer
    checkpoint: Checkpoint
    outbox: OutboxHandler
    step: Step


def wire(
    backends: Backends, settings: Settings, consumer: Consumer, topics: Sequence[str], clock: Clock, timer: Clock
) -> Collaborators:
    """The collaborators of a worker that reads these topics. No backend is called."""
    cache, queue, store = backends.cache, backends.queue, backends.store
    code_deriver, ordered = CodeDeriver(settings.secret), is_ordered(settings.topics)
    heartbeat = Heartbeat(cache, code_deriver, settings.heartbeat_file, clock, timer, topics)
    policy = DeadLetterPolicy(queue, clock, settings.dead_letters_in_a_row)

    # Commands that wait for their coupon or predecessor, and for how long.
    deferred = DeferredCommands(timer, ordered=ordered)
    horizons = Horizons(queue, command_topics(settings.topics), timer, heartbeat.delivered_to_others)
    places = Places(queue, ordered=ordered)
    arrivals = Arrivals(horizons, deferred, settings.predecessor_wait_s * 1000, places)

    # What follows the store: search, the cache, and the offsets.
    indexer = Indexer(backends.search, queue, timer)
    invalidator = CacheInvalidator(cache, store, queue, code_deriver, settings.cache_ttl_s, timer)
    checkpoint = Checkpoint(indexer, consumer, timer, settings.batch_max)

    tally = Tally(clock, topics)
    creations = CreationHandler(store, code_deriver, deferred, checkpoint, tally)
    changes = ChangeHandler(store, queue, invalidator, deferred, horizons, arrivals, places, policy, checkpoint, tally)
    outbox = OutboxHandler(store, indexer, invalidator)
    tracer = open_tracer("coupon-worker")
    handlers = {
        ForgedMessage: forged_messages,
        BadMessage: bad_messages,
        CreateCoupons: with_spans(creations.handle, tracer),
        ChangeCoupon: with_spans(changes.handle, tracer),
        OutboxEntry: outbox.handle,
    }
    return Collaborators(
        heartbeat=heartbeat,
        turns=Turns(code_deriver.fingerprint),
        deferred=deferred,
        ready=ReadyCommands(store, deferred, horizons, arrivals, places),
        horizons=horizons,
        policy=policy,
        indexer=indexer,
        checkpoint=checkpoint,
        outbox=outbox,
        step=Step(handlers, policy, deferred, horizons, checkpoint),
    )
