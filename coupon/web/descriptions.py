"""The addresses in the OpenAPI document: their responses, and the codes of their problems."""

from marshmallow import Schema

from coupon.web import commands, schemas, texts
from coupon.web.openapi import TEXT, Description

COMMAND_PROBLEMS = (
    "BAD_REQUEST",
    "INVALID_JSON",
    "BODY_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "INVALID_FIELD",
    "IDEMPOTENCY_KEY_REUSED",
    "UNREADABLE",
    "UNAVAILABLE",
)
CHANGE_PROBLEMS = (*COMMAND_PROBLEMS, "NOT_FOUND", "BUSY", "RIVAL_WON", "PREDECESSOR_LOST")


def creation(body: Schema) -> Description:
    answers = {
        202: (schemas.CreationAccepted, "Accepted: the coupons will be there."),
        200: (schemas.CreationAccepted, "With `Prefer: wait`: the coupons are there."),
    }
    return Description("commands", answers, (*COMMAND_PROBLEMS, "TOO_MANY_CREATIONS"), body=body, text=texts.CREATION)


def _change(body: Schema, text: str, *conflicts: str) -> Description:
    answers = {
        202: (schemas.Accepted, "Accepted: it will be applied, unless a rival was faster."),
        200: (schemas.Accepted, "With `Prefer: wait`: applied."),
    }
    return Description("commands", answers, (*conflicts, *CHANGE_PROBLEMS), body=body, text=text)


ISSUE = _change(commands.ISSUE, texts.ISSUE, "ALREADY_USED", "ALREADY_ISSUED", "ALREADY_EXPIRED")
USE = _change(commands.USE, texts.USE, "ALREADY_USED", "EXPIRED", "NOT_STARTED", "NOT_ISSUED", "NOT_HOLDER")
CANCEL = _change(commands.CANCEL, texts.CANCEL, "ALREADY_USED", "NOT_ISSUED", "ALREADY_EXPIRED")
CANCEL_USE = _change(commands.CANCEL, texts.CANCEL_USE, "NOT_USED", "EXPIRED")
COUPON = Description(
    "reads",
    {200: (schemas.CouponWithHistory, "As the store has it.")},
    ("NOT_FOUND", "INVALID_FIELD", "UNREADABLE", "UNAVAILABLE"),
    text=texts.COUPON,
)
LIST_PROBLEMS = ("INVALID_FIELD", "INVALID_CURSOR", "UNAVAILABLE")
LIST_ANSWERS = {200: (schemas.Coupons, "A page.")}
EXPIRING = Description("reads", LIST_ANSWERS, LIST_PROBLEMS, query=schemas.PageQuery, text=texts.EXPIRING)
HELD = Description("reads", LIST_ANSWERS, LIST_PROBLEMS, query=schemas.PageQuery, text=texts.HELD)
MINE = Description("reads", LIST_ANSWERS, LIST_PROBLEMS, query=schemas.PageQuery, text=texts.MINE)
OPERATION = Description(
    "operations",
    {200: (schemas.Operation, "What became of it; for a creation also a page of its codes.")},
    ("NOT_FOUND", "OUTCOME_EXPIRED", "INVALID_FIELD", "INVALID_CURSOR", "UNREADABLE", "UNAVAILABLE"),
    query=schemas.PageQuery,
    text=texts.OPERATION,
)
# Probes ignore query parameters: a proxy may append some, and with a 422 a healthy process would count as dead.
LIVEZ = Description("health", {200: (schemas.Alive, "Alive.")}, any_query=True, text=texts.LIVEZ)
READYZ = Description(
    "health",
    {200: (schemas.Ready, "Commands can be taken.")},
    ("UNAVAILABLE",),
    any_query=True,
    text=texts.READYZ,
)
METRICS = Description(
    "health",
    {200: (None, "The text format of Prometheus.")},
    any_query=True,
    text=texts.METRICS,
    media_type=TEXT,
)
