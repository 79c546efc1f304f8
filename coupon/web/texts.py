"""What each address needs and leaves, in Markdown, for the OpenAPI document."""

_FOLLOW = "A 202 is followed at its `Location`. A request that is refused leaves no trace."

CREATION = (
    """\
Makes `amount` coupons that are valid from the first moment of `validFrom` to the last one of `expireAt`.

- **Needs** nothing that is there. `expireAt` is not before `validFrom`.
- **Leaves** free coupons with codes that nobody can guess. Up to 1,000 codes are in the response, before the coupons
  are there. All of them are at the operation's address, by pages.
- A million coupons take minutes. `created` says how far it is. What was created already can be issued meanwhile.

**Send an `Idempotency-Key`**: without one, the same request sent again makes other coupons. """
    + _FOLLOW
)

ISSUE = (
    """\
Gives a free coupon to a user.

- **Needs** a coupon that nobody holds and whose last day is not over. Its first day may be yet to come.
- **Leaves** `userId`, `issued` and `issuedAt`. From now on the user holds it, and nobody else gets it.

`userId` is your own name for the user: 1 to 128 characters. """
    + _FOLLOW
)

USE = (
    """\
Uses a coupon that a user holds.

- **Needs** a coupon that is held and not used, on one of its days. With `userId`, it has to be held by that user. Send
  it, unless the code alone shall be enough.
- **Leaves** `used` and `usedAt`. No other use of it succeeds, however many are sent at once.

With `Prefer: wait=5` the till knows at once. """
    + _FOLLOW
)

CANCEL = (
    """\
Takes a coupon back from its holder.

- **Needs** a coupon that is held and not used, and whose last day is not over.
- **Leaves** a free coupon, which can be issued again.

"""
    + _FOLLOW
)

CANCEL_USE = (
    """\
Undoes the use of a coupon.

- **Needs** a coupon that is used, and whose last day is not over.
- **Leaves** a coupon that is held by the same user and not used.

"""
    + _FOLLOW
)

COUPON = """\
The coupon as the store has it, and its last 100 commands, the oldest first.

A command that is accepted and not applied yet is not in it. Instants are in UTC; days are in the service's time zone.
"""

_LIST = """
It comes from the search index, which **lags behind**: what was applied just now may be missing for a second, and for
longer while search is down. Ask for a single coupon where it matters.

`limit` coupons a page. With `next` as the `cursor` the next page follows, until `next` is null.
"""

EXPIRING = "All coupons that nobody has used and whose last day is today, held or free.\n" + _LIST
MINE = "All coupons that the user of the token holds, the used ones and those that have ended, too.\n" + _LIST
HELD = "All coupons that the user holds, the used ones and those whose last day is over, too.\n" + _LIST

OPERATION = """\
What became of a command. The address is the `Location` of the response to it.

| `status` | it means |
| --- | --- |
| `accepted` | it is durable, and not applied yet: ask again in a moment |
| `applied` | the coupon, or each coupon of the creation, is as the command wanted it. Final |
| `rejected` | nothing was changed; `code` and `detail` say why. Final |

An operation of a creation also has its codes, by pages of `limit`.
"""

LIVEZ = "The process answers. For the liveness probe: it asks no server."

METRICS = "The numbers of all web processes of this machine. A worker serves its own (`COUPON_WORKER_METRICS`)."

READYZ = """\
200 as long as queue and store answer, because then commands can be taken. `dependencies` has each server, and whether
every topic has a living worker.

`problems` are sentences about what is wrong though it answers. One check serves all who ask within a second.
"""
