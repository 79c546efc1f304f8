"""What a caller does about each problem, for ``/docs/problems``."""

from collections.abc import Mapping

AGAIN = "Wait as long as `Retry-After` says, then send the same request with the same `Idempotency-Key`."
LOOK = "Look at the coupon, and decide again."

REMEDIES: Mapping[str, str] = {
    "INVALID_JSON": "Send one JSON object in UTF-8. `detail` says where it ends to be one.",
    "BAD_REQUEST": "Mend the client: the request is no HTTP/1.1, or its body did not come whole.",
    "UNAUTHENTICATED": "Send `Authorization: Bearer ck_…` with a key that an operator made by `coupon keys create`.",
    "FORBIDDEN": "Ask an operator for a key with one of the `roles` that the problem names.",
    "UNKNOWN_HOST": "Call the service by its name. An operator sets the names in `COUPON_HOSTS`.",
    "NOT_FOUND": "Compare the code or the address with the response that gave it. A coupon that was created just now is"
    " there when its operation is `applied`.",
    "OUTCOME_EXPIRED": "Look at the coupon itself: its history has the last 100 commands.",
    "REQUEST_TIMEOUT": "Send it again, without pauses.",
    "METHOD_NOT_ALLOWED": "Use a method that the `Allow` header names.",
    "ALREADY_USED": "Choose another coupon. To take this one back, undo its use first.",
    "ALREADY_ISSUED": "Choose another coupon, or take this one back first. `detail` says whether it is the named user"
    " who holds it: then nothing is left to do.",
    "ALREADY_EXPIRED": "Choose another coupon. Sent by `issue` and `cancel`; a use is `EXPIRED`.",
    "EXPIRED": "Nothing: the user came too late. Sent by `use` and `cancel-use`; an issue is `ALREADY_EXPIRED`.",
    "NOT_STARTED": "Send it again on the day that `detail` names.",
    "NOT_ISSUED": "Issue it first.",
    "NOT_HOLDER": "Ask the user for a coupon of his own.",
    "NOT_USED": "Nothing: there is no use to undo.",
    "RIVAL_WON": LOOK,
    "PREDECESSOR_LOST": LOOK,
    "BODY_TOO_LARGE": "Send less: `detail` says how many bytes there may be.",
    "UNSUPPORTED_MEDIA_TYPE": "Send `Content-Type: application/json`.",
    "INVALID_FIELD": "Mend what `errors` names, each with a sentence.",
    "INVALID_CURSOR": "Begin at the first page, without a `cursor`. A cursor is `next` of the page before, of the same"
    " list.",
    "IDEMPOTENCY_KEY_REUSED": "Take a new key for a new request, and the old one only to send the very same again.",
    "UNREADABLE": "Tell the operator, with the coupon's code.",
    "TOO_MANY_REQUESTS": AGAIN,
    "TOO_MANY_GUESSES": "Wait as long as `Retry-After` says, and have codes checked before they are sent.",
    "TOO_MANY_CREATIONS": AGAIN,
    "INTERNAL_ERROR": "Send it again with the same `Idempotency-Key`. If it goes on, tell the operator when it was.",
    "BUSY": AGAIN,
    "UNAVAILABLE": AGAIN,
}
"""By code. A word in backticks is shown as code."""
