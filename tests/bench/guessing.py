"""How long an issue takes while somebody guesses codes, beside how long it takes while as many ask whether it lives.

The guesser has a key of its own, and 32 connections without a pause. Coupons are issued and taken back.
"""

import json
from functools import partial

from coupon.domain.codes import CodeDeriver
from tests.bench.figure import Figure
from tests.bench.hanging import ISSUERS, commands
from tests.bench.place import Place
from tests.bench.wrk import beside_load, paths
from tests.e2e.deployment import Deployment

ROUNDS, SECONDS = 5, 6
GUESSES = 100_000


def figures(place: Place) -> list[Figure]:
    beside = "the same beside as many connections that ask for /livez"
    p50, p99 = (
        Figure(f"an issue beside 32 connections that guess codes, {which}", "ms", beside, at_most=1.2)
        for which in ("p50", "p99")
    )
    found = Figure("guesses that were looked up", "", at_most=100)
    guesses = Figure("guesses that were sent", "")
    folder = place.new_folder()
    codes = CodeDeriver("a secret that this service does not have").codes("guesses", 0, GUESSES)
    guessing = paths([f"/v1/coupons/{code}" for code in codes], folder)
    living = paths(["/livez"], place.new_folder())
    with Deployment(place.embedded() | {"COUPON_GUESSES_PER_MINUTE": "20"}, workers=1) as running:
        free = running.create(ISSUERS)
        shop, guesser = (
            json.loads(running.coupon("keys", "create", "--name", name, "--role", role, "--json").stdout)["key"]
            for name, role in (("shop", "operator"), ("guesser", "app"))
        )
        take = partial(commands, running.url, free, key=shop)
        take(SECONDS)  # to warm up
        for _ in range(ROUNDS):
            with beside_load(running.url, living, SECONDS, place.new_folder(), guesser):
                quiet = take(SECONDS)
            with beside_load(running.url, guessing, SECONDS, place.new_folder(), guesser) as statuses:
                beside_guesses = take(SECONDS)
            guesses.ours.append(sum(statuses.values()))
            found.ours.append(statuses[404])
            for figure, ours, against in ((p50, beside_guesses.p50, quiet.p50), (p99, beside_guesses.p99, quiet.p99)):
                figure.ours.append(ours)
                figure.against.append(against)
    return [p50, p99, found, guesses]
