"""A span of each command that a handler applied, where OpenTelemetry is on."""

import time
from collections.abc import Sequence

from coupon.applying.batch import Task
from coupon.runtime.tracing import Tracer
from coupon.worker.dead_letter_policy import Failures
from coupon.worker.step import Handler


def with_spans(handle: Handler, tracer: Tracer | None) -> Handler:
    """The handler; with a tracer, one that makes spans of what it handled together."""
    if tracer is None:
        return handle

    def handle_with_spans(tasks: Sequence[Task]) -> Failures:
        began_ns = time.time_ns()
        failures = handle(tasks)
        tracer.applied((getattr(task.payload, "traceparent", "") for task in tasks), began_ns)
        return failures

    return handle_with_spans
