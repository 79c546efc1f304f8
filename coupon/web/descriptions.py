"""The addresses in the OpenAPI document: their responses, and the codes of their problems."""

from marshmallow import Schema

from coupon.web import commands, schemas
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
    return Description("commands", answers, (*COMMAND_PROBLEMS, "TOO_MANY_CREATIONS"), body=body)


def _change(body: Schema, *conflicts: str) -> Description:
    answers = {
        202: (schemas.Accepted, "Accepted: it will be applied, unless a rival was faster."),
        200: (schemas.Accepted, "With `Prefer: wait`: applied."),
    }
    return Description("commands", answers, (*conflicts, *CHANGE_PROBLEMS), body=body)


ISSUE = _change(commands.ISSUE, "ALREADY_USED", "ALREADY_ISSUED", "ALREADY_EXPIRED")
USE = _change(commands.USE, "ALREADY_USED", "EXPIRED", "NOT_STARTED", "NOT_ISSUED", "NOT_HOLDER")
CANCEL = _change(commands.CANCEL, "ALREADY_USED", "NOT_ISSUED", "ALREADY_EXPIRED")
CANCEL_USE = _change(commands.CANCEL, "NOT_USED", "EXPIRED")
COUPON = Description(
    "reads",
    {200: (schemas.CouponWithHistory, "As the store has it.")},
    ("NOT_FOUND", "INVALID_FIELD", "UNREADABLE", "UNAVAILABLE"),
)
LIST = Description(
    "reads",
    {200: (schemas.Coupons, "A page.")},
    ("INVALID_FIELD", "INVALID_CURSOR", "UNAVAILABLE"),
    query=schemas.PageQuery,
)
OPERATION = Description(
    "operations",
    {200: (schemas.Operation, "What became of it; for a creation also a page of its codes.")},
    ("NOT_FOUND", "OUTCOME_EXPIRED", "INVALID_FIELD", "INVALID_CURSOR", "UNREADABLE", "UNAVAILABLE"),
    query=schemas.PageQuery,
)
# Probes ignore query parameters: a proxy may append some, and with a 422 a healthy process would count as dead.
LIVEZ = Description("health", {200: (schemas.Alive, "Alive.")}, any_query=True)
READYZ = Description("health", {200: (schemas.Ready, "Commands can be taken.")}, ("UNAVAILABLE",), any_query=True)
METRICS = Description("health", {200: (None, "The text format of Prometheus.")}, any_query=True, media_type=TEXT)
