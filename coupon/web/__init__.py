"""The web side: takes commands and answers questions over HTTP."""

import os
from math import ceil

from flask import Flask

from coupon.acceptance.queries import Queries
from coupon.acceptance.service import CommandService
from coupon.domain.clock import Clock, monotonic_ms, now_ms
from coupon.ports.queue import Queue
from coupon.ports.search import Search
from coupon.ports.store import Store
from coupon.runtime import logs
from coupon.runtime.settings import Settings, load
from coupon.runtime.wiring import Backends, open_backends
from coupon.web.application import Application
from coupon.web.bulkhead import Bulkhead, guarded
from coupon.web.commands import commands
from coupon.web.docs_pages import pages
from coupon.web.health import health
from coupon.web.openapi import publish
from coupon.web.operations import outcomes
from coupon.web.reads import AnyText, questions
from coupon.web.request_id import RequestId

THREADS = 16
"""Of a process, unless WEB_THREADS says otherwise, to ``conf/gunicorn.conf.py`` too."""
# Such a part of them may wait for one backend at a time: who asks something else, or whether the process is alive,
# finds one of the others. A list is refused sooner than a command.
PART_FOR_SEARCH, PART_FOR_COMMANDS = 3 / 8, 3 / 4
PATIENCE_FOR_SEARCH_MS, PATIENCE_FOR_COMMANDS_MS = 250, 1_000


def create_app(
    settings: Settings | None = None,
    backends: Backends | None = None,
    clock: Clock = now_ms,
    timer: Clock = monotonic_ms,
) -> Flask:
    """The application, on the settings of this process unless given; raises ConfigurationError. Opens no connection:
    that is left to the first request, after gunicorn's fork."""
    settings = settings or load()
    backends = backends or open_backends(settings)
    logs.configure(settings.log_level, settings.log_format)
    bounded = _bounded(backends, timer)
    service = CommandService(bounded, settings, clock, timer=timer)
    queries = Queries(bounded.search, bounded.store, service.mint, settings.timezone, clock)

    app = Application(__name__, static_folder=None, body_max=settings.max_body_bytes)
    app.url_map.merge_slashes = False  # a user's id may hold two of them
    app.url_map.converters["text"] = AnyText
    app.extensions["coupon"] = backends
    probes = health(backends, settings, timer)
    publish(app, [commands(service, settings), questions(queries, service.operations), outcomes(service), probes])
    app.register_blueprint(pages)
    app.wsgi_app = RequestId(app.wsgi_app)  # type: ignore[method-assign]
    return app


def _bounded(backends: Backends, timer: Clock) -> Backends:
    """The backends, none of which takes all threads while it hangs. The cache is as it was: it hangs for a fifth of a
    second, and then leaves a silent server alone by itself."""

    threads = int(os.environ.get("WEB_THREADS", THREADS))

    def guard(role: str) -> Bulkhead:
        return Bulkhead(role, ceil(threads * PART_FOR_COMMANDS), PATIENCE_FOR_COMMANDS_MS, timer)

    lists = Bulkhead("search", ceil(threads * PART_FOR_SEARCH), PATIENCE_FOR_SEARCH_MS, timer)
    return Backends(
        cache=backends.cache,
        queue=guarded(Queue, backends.queue, guard("queue")),  # type: ignore[type-abstract]
        store=guarded(Store, backends.store, guard("store")),  # type: ignore[type-abstract]
        search=guarded(Search, backends.search, lists),  # type: ignore[type-abstract]
    )
