"""The web side: takes commands and answers questions over HTTP."""

from flask import Flask

from coupon import logs
from coupon.clock import Clock, now_ms
from coupon.queries import Queries
from coupon.service import CommandService
from coupon.settings import Settings, load
from coupon.web.application import Application
from coupon.web.commands import commands
from coupon.web.health import health
from coupon.web.openapi import publish
from coupon.web.outcomes import outcomes
from coupon.web.pages import pages
from coupon.web.questions import AnyText, questions
from coupon.web.request_id import RequestId
from coupon.wiring import Backends, open_backends


def create_app(settings: Settings | None = None, backends: Backends | None = None, clock: Clock = now_ms) -> Flask:
    """The application, on the settings of this process unless given; raises ConfigurationError. Opens no connection:
    that is left to the first request, after gunicorn's fork."""
    settings = settings or load()
    backends = backends or open_backends(settings)
    logs.configure(settings.log_level, settings.log_format)
    service = CommandService(backends, settings, clock)
    queries = Queries(backends.search, backends.store, service.mint, settings.timezone, clock)

    app = Application(__name__, static_folder=None, body_max=settings.max_body_bytes)
    app.url_map.merge_slashes = False  # a user's id may hold two of them
    app.url_map.converters["text"] = AnyText
    app.extensions["coupon"] = backends
    publish(
        app,
        [
            commands(service, settings),
            questions(queries, service.operations),
            outcomes(service),
            health(backends, settings),
        ],
    )
    app.register_blueprint(pages)
    app.wsgi_app = RequestId(app.wsgi_app)  # type: ignore[method-assign]
    return app
