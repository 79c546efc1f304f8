"""The handler of creations, which are never deferred."""

from collections import Counter
from collections.abc import Sequence

import structlog

from coupon.applying.apply import apply_creations
from coupon.applying.batch import Task
from coupon.domain.chunks import is_of_this_secret
from coupon.domain.codes import CodeDeriver
from coupon.domain.model import CreateCoupons
from coupon.ports.store import Store
from coupon.runtime.logs import traces
from coupon.worker.checkpoint import Checkpoint
from coupon.worker.dead_letter_policy import Failure, Failures
from coupon.worker.deferred import DeferredCommands
from coupon.worker.tally import Tally

OTHER_SECRET = "accepted with another COUPON_SECRET, whose fingerprint is {}"  # noqa: S105 - a sentence
log = structlog.get_logger("coupon.worker")


class CreationHandler:
    """The handler of one worker. ``code_deriver`` derives the codes of the coupons."""

    def __init__(
        self, store: Store, code_deriver: CodeDeriver, deferred: DeferredCommands, checkpoint: Checkpoint, tally: Tally
    ) -> None:
        self._store, self._code_deriver = store, code_deriver
        self._deferred, self._checkpoint, self._tally = deferred, checkpoint, tally

    def handle(self, tasks: Sequence[Task]) -> Failures:
        """Create the coupons. Returns the failures: creations that were accepted with another secret, whose dead
        letters can be replayed by workers with that secret. Raises BackendUnavailable: then some may be applied."""
        failures: Failures = {}
        chunks = []
        for task in tasks:
            chunk = task.payload
            if not isinstance(chunk, CreateCoupons):
                continue
            if is_of_this_secret(chunk, self._code_deriver):
                chunks.append(chunk)
            else:
                failures[task.record_id] = Failure(OTHER_SECRET.format(chunk.secret_fingerprint[:20]), is_poison=False)
        if chunks:
            self._apply(chunks)
        return failures

    def _apply(self, chunks: Sequence[CreateCoupons]) -> None:
        coupons = apply_creations(self._store, chunks, self._code_deriver)
        self._deferred.make_due(coupons)
        self._tally.creations(chunks)
        sizes: Counter[str] = Counter()
        for chunk in chunks:
            sizes[chunk.operation] += chunk.size
        log.info("created", operations=sizes, **traces(chunk.traceparent for chunk in chunks))
        self._checkpoint.stored(coupons)
