"""The verdict on ``Idempotency-Key``s: a key belongs to one request, and nobody is told that another's was his."""

from collections.abc import Callable, Iterable, Iterator

from coupon.acceptance.operations import ChangeRef, CreationRef
from coupon.domain.codes import CodeDeriver
from coupon.domain.model import ChangeCoupon, CreateCoupons
from tests.proof.lineage import Violation
from tests.proof.record import Evidence, Request, Words

Parse = Callable[[str], ChangeRef | CreationRef]
APPLIED = "applied means in these words"
ONE_NAME = "one name, one thing"
ONE_REQUEST = "a key belongs to one request"
FOR_A_REASON = "422 for another request only"


def words_of(command: ChangeCoupon | CreateCoupons) -> Words:
    """Those of the request that it came from."""
    if isinstance(command, ChangeCoupon):
        return Words(command.kind, command.code, command.user_id, 0, "")
    return Words("create", "", None, command.amount, command.expire_at)


def key_violations(evidence: Evidence, code_deriver: CodeDeriver, parse: Parse) -> Iterator[Violation]:
    """What the records of a run say against the keys."""
    accepted: dict[str, list[Request]] = {}
    by_key: dict[str, list[Request]] = {}
    for request in evidence.requests:
        by_key.setdefault(request.key, []).append(request)
        if request.accepted:
            accepted.setdefault(request.address, []).append(request)
    yield from applied_in_these_words(evidence, accepted, code_deriver, parse)
    yield from one_name_one_thing(evidence, accepted, parse)
    for requests in by_key.values():
        if len({request.words for request in requests}) > 1:
            yield from refused_for_another_request(requests, well=evidence.well)
            if evidence.well:
                yield from bound_to_the_first(requests)


def applied_in_these_words(
    evidence: Evidence, accepted: dict[str, list[Request]], code_deriver: CodeDeriver, parse: Parse
) -> Iterator[Violation]:
    """Who was told ``applied``, by the answer or at the address, finds what he asked for in the store."""
    applied = {observed.address for observed in evidence.observed if observed.status == "applied"}
    for text, requests in accepted.items():
        for request in dict.fromkeys(r._replace(sent=0, ended=0, status=202) for r in requests):
            is_applied = text in applied or any(r.status == 200 and r.words == request.words for r in requests)
            if is_applied and not _is_done(evidence, request, code_deriver, parse):
                yield Violation(APPLIED, f"{request} was told that it was applied")


def _is_done(evidence: Evidence, request: Request, code_deriver: CodeDeriver, parse: Parse) -> bool:
    """Whether the store holds it, in these very words."""
    match parse(request.address):
        case ChangeRef() as address if address.code == request.code:
            coupon = evidence.coupons.get(request.code)
            entry = coupon and coupon.entry(address.operation)
            return entry is not None and (entry.kind, entry.user_id) == (request.kind, request.user_id)
        case CreationRef(operation, amount) if amount == request.amount:
            found = [evidence.coupons.get(code) for code in code_deriver.codes(operation, 0, amount)]
            return all(coupon and coupon.expire_at == request.expire_at for coupon in found)
    return False


def one_name_one_thing(evidence: Evidence, accepted: dict[str, list[Request]], parse: Parse) -> Iterator[Violation]:
    """What clients are given as an operation's name stands for one request, whoever looks."""
    things: dict[str, set[Words]] = {}
    for text, requests in accepted.items():
        things.setdefault(parse(text).operation, set()).update(request.words for request in requests)
    for command in evidence.commands:
        things.setdefault(command.operation, set()).add(words_of(command))
    for operation, words in things.items():
        if len(words) > 1:
            yield Violation(ONE_NAME, f"{operation} is {sorted(map(str, words))}")


def refused_for_another_request(requests: Iterable[Request], *, well: bool) -> Iterator[Violation]:
    """A 422 tells of another request with the key.

    A request that was refused before this one was sent binds no key while the cache is well. A binding that the cache
    stored after its time-out stays.
    """
    for request in requests:
        if request.status == 422 and not any(
            other.words != request.words
            and other.sent <= request.ended
            and not (well and other.refused and other.ended < request.sent)
            for other in requests
        ):
            yield Violation(FOR_A_REASON, f"{request} is the only one with its key")


def bound_to_the_first(requests: Iterable[Request]) -> Iterator[Violation]:
    """While the cache is well nobody is told yes for a second one, and who comes after a yes is told 422 at once."""
    accepted = [request for request in requests if request.accepted]
    for first in accepted:
        for other in requests:
            if other.words == first.words:
                continue
            if other.accepted and other.sent >= first.sent:
                yield Violation(ONE_REQUEST, f"{first} was accepted, and {other}")
            elif other.sent > first.ended and other.status not in (0, 422, 503):
                yield Violation(ONE_REQUEST, f"{first} was accepted, and {other} was told something else than 422")
