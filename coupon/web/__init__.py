"""The web side: it takes commands and answers reads over HTTP."""

from flask import Flask

from coupon.domain.clock import Clock, monotonic_ms, now_ms
from coupon.runtime import logs, server_settings
from coupon.runtime.measured_backends import measure_backends
from coupon.runtime.metrics import PROCESSES
from coupon.runtime.settings import Settings, load
from coupon.runtime.tracing import open_tracer
from coupon.runtime.wiring import Backends, open_backends
from coupon.runtime.worker_registry import package_version
from coupon.web import body_limits, problems, routes
from coupon.web.application import Application
from coupon.web.body_limits import BodyLimits
from coupon.web.bulkhead import guard_backends
from coupon.web.exact_paths import ExactPaths
from coupon.web.known_hosts import KnownHosts
from coupon.web.reads import AnyText
from coupon.web.request_id import RequestId
from coupon.web.safe_headers import SafeHeaders
from coupon.web.services import open_services
from coupon.web.trace_context import Spans, TraceContext


def create_app(
    settings: Settings | None = None,
    backends: Backends | None = None,
    clock: Clock = now_ms,
    timer: Clock = monotonic_ms,
) -> Flask:
    """The WSGI application. Settings and backends come from the environment unless given; raises ConfigurationError.

    It opens no connection: the first request does, after gunicorn's fork.
    """
    settings = settings or load()
    backends = backends or open_backends(settings)
    logs.configure(settings.log_level, settings.log_format)
    PROCESSES.set(1, "web", package_version())
    guarded = guard_backends(measure_backends(backends), server_settings.load().threads, timer)

    app = Application(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # a user's id may hold two of them
    app.url_map.converters["text"] = AnyText
    app.extensions["coupon"] = backends
    app.extensions[body_limits.EXTENSION] = BodyLimits(settings.max_body_bytes)
    routes.register(app, open_services(settings, backends, guarded, clock, timer))
    problems.register(app)
    known = KnownHosts(app.wsgi_app, filter(None, settings.hosts.split(",")))
    inner, tracer = RequestId(SafeHeaders(known)), open_tracer("coupon-web")
    app.wsgi_app = ExactPaths(Spans(inner, tracer) if tracer else TraceContext(inner))  # type: ignore[method-assign]
    return app
