"""Spans for OpenTelemetry: of each request, and of each command that a worker applies.

Off, and never imported, unless ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set. It needs the extra ``coupon[opentelemetry]``,
whose own environment variables (``OTEL_…``) say all else.
"""

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog

from coupon.runtime.worker_registry import package_version

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
log = structlog.get_logger("coupon.tracing")


class Tracer:
    """Makes spans and sends them, in a thread of its own. Make one in each process, after a fork."""

    def __init__(self, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = os.environ.get("OTEL_SERVICE_NAME") or service
        provider = TracerProvider(
            resource=Resource.create({"service.name": name, "service.version": package_version()})
        )
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer, self._kinds = provider.get_tracer("coupon", package_version()), SpanKind
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, traceparent: str) -> "Span":
        """The span of a request; end it with ``end``."""
        attributes = {"http.request.method": method}
        kind = self._kinds.SERVER
        return self._tracer.start_span(method, self._context(traceparent), kind, attributes=attributes)

    def traceparent(self, span: "Span") -> str:
        """That of requests and commands which the span's request leads to."""
        context = span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def end(self, span: "Span", status: int) -> None:
        span.set_attribute("http.response.status_code", status)
        span.end()

    def applied(self, traceparents: Iterable[str], began_ns: int) -> None:
        """Make the spans of commands that were applied together, from ``began_ns`` (of ``time.time_ns``) until now."""
        ended_ns, kind = time.time_ns(), self._kinds.CONSUMER
        for traceparent in filter(None, traceparents):
            context = self._context(traceparent)
            self._tracer.start_span("apply", context, kind, start_time=began_ns).end(ended_ns)

    def _context(self, traceparent: str) -> "Context":
        carrier: dict[str, Any] = {"traceparent": traceparent} if traceparent else {}
        return self._propagator.extract(carrier)


def open_tracer(service: str) -> Tracer | None:
    """None where tracing is off, and, with a warning, where the extra is not installed."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    try:
        return Tracer(service)
    except ModuleNotFoundError as error:
        log.warning("no spans", error=f"{error}: run: pip install 'coupon[opentelemetry]'")
        return None
