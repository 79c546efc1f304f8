"""What the views of one application use. Each view takes it as its first argument."""

from dataclasses import dataclass

from marshmallow import Schema

from coupon.acceptance.queries import Cursors, Queries
from coupon.acceptance.service import CommandService
from coupon.domain.clock import Clock
from coupon.runtime import server_settings
from coupon.runtime.questions import PATIENCE_MS, Questions, Values
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from coupon.web import schemas
from coupon.web.access import Access
from coupon.web.current_keys import CurrentKeys
from coupon.web.readiness import PATIENCE_S, Findings, Readiness
from coupon.web.single_flight import SingleFlight
from coupon.web.thread_pool import Waiting
from coupon.web.throttle import Throttle
from coupon.web.user_tokens import open_user_tokens


@dataclass(frozen=True, slots=True)
class Services:
    """The services behind the addresses, made once by ``create_app``."""

    settings: Settings
    commands: CommandService
    queries: Queries
    cursors: Cursors
    """Of the pages of a creation's codes."""
    access: Access
    throttle: Throttle
    readiness: SingleFlight[Findings]
    questions: SingleFlight[Values]
    """What is asked at a scrape: a backend that hangs holds one thread of those that scrape."""
    waiting: Waiting
    creation: Schema
    """The body of a creation; its largest amount is a setting."""


def open_services(settings: Settings, backends: Backends, guarded: Backends, clock: Clock, timer: Clock) -> Services:
    """The services on the ``guarded`` backends. Only the readiness check calls the ``backends`` themselves."""
    waiting = Waiting(server_settings.load().threads)
    commands = CommandService(guarded, settings, clock, timer=timer, patience=waiting.begin)
    return Services(
        settings=settings,
        commands=commands,
        queries=Queries(guarded.search, guarded.store, commands.code_deriver, settings.timezone, clock),
        cursors=Cursors(commands.code_deriver),
        access=Access(settings, CurrentKeys(guarded.store, timer), open_user_tokens(settings, timer), clock),
        throttle=Throttle(settings, commands.guesses),
        questions=SingleFlight(Questions(guarded, settings, clock, timer).answers, PATIENCE_MS, timer),
        waiting=waiting,
        readiness=SingleFlight(Readiness(backends, settings).check, int(PATIENCE_S * 1000), timer),
        creation=schemas.creation(settings.max_amount),
    )
