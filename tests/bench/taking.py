"""What the web side takes and answers on the real servers, with ``wrk -t1 -c32``: gunicorn as ``conf/`` has it.

First no worker runs, so that the figures are of the web side; then what a busy worker leaves of it.
Everything, the load too, shares the machine.
"""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from coupon.acceptance.requests import Caller
from coupon.acceptance.service import CommandService
from coupon.domain.model import Coupon, Kind, create, transition
from coupon.runtime.wiring import Backends
from tests.bench.bare import bare_web
from tests.bench.figure import Figure, cpu_s
from tests.bench.place import Place, opened, quiet
from tests.bench.running import stored
from tests.bench.web_cpu import FIRST, LAST
from tests.bench.wrk import bodies, changes, load, paths, same
from tests.coupons import a_command, a_creation
from tests.e2e.deployment import Deployment, children, rss_peak_mb

ROUNDS = 5
WARM_UP_S = 20
"""Java compiles what it has seen often."""
ORIGINAL = "the original, fully warmed"
HELD, HELD_BY_EACH = 40_000, 5
FRESH_A_ROUND, CACHED_A_ROUND = 15_000, 800
CREATION = {"amount": 1, "validFrom": FIRST, "expireAt": LAST}


def figures(place: Place) -> list[Figure]:
    environ = place.on_services()
    with opened(environ) as (loaded, backends), bare_web(place) as bare:
        service = CommandService(backends, loaded)
        coupons = stored(service, backends, ROUNDS * (FRESH_A_ROUND + CACHED_A_ROUND))
        fresh = iter([coupon.code for coupon in coupons])
        with Deployment(environ, workers=0) as running:
            found = [*lists(running.url, place, backends), *accepted(running, bare, place, service, fresh)]
            found += [*large(running), Figure("memory of a web process then", "MB", at_most=120, ours=memory(running))]
            running.start_worker()
            found += beside_a_worker(running.url, bare)
    return found


def accepted(
    running: Deployment, bare: str, place: Place, service: CommandService, fresh: Iterator[str]
) -> list[Figure]:
    """Creations of one; issues and cancels of coupons that the cache knows; issues of such that it does not."""
    names = ["creations of one", "issues and cancels, cached", "issues, not cached"]
    rates = [Figure(f"accepted {n}", "1/s", "an empty Flask view on the same workers", at_least=0.5) for n in names]
    slowest = [Figure(f"the same, p99: {n}", "ms", at_most=35) for n in names]
    costs = [Figure(f"CPU of the web processes: {n}", "µs") for n in names]
    url, pids = f"{running.url}/v1/coupons", children(running.process.pid)
    load(url, same("POST", CREATION), WARM_UP_S, place.folder)
    for _ in range(ROUNDS):
        empty = load(bare, folder=place.folder).rate
        cached = list(islice(fresh, CACHED_A_ROUND))
        issue_and_cancel(service, cached)
        scripts = [
            same("POST", CREATION),
            changes(cached, ["issue", "cancel"], place.new_folder()),
            changes(list(islice(fresh, FRESH_A_ROUND)), ["issue"], place.new_folder()),
        ]
        for rate, slow, cost, script in zip(rates, slowest, costs, scripts, strict=True):
            before = cpu_s(pids)
            seen = load(url, script, folder=place.folder)
            cost.ours.append((cpu_s(pids) - before) / seen.answers * 1e6)
            rate.ours.append(seen.rate)
            rate.against.append(empty)
            slow.ours.append(seen.p99_ms)
    rates[2].at_least = slowest[2].at_most = None  # each is a read of the emulator first: told, and not a goal
    against_the_original = [
        Figure(f"accepted {name}", "1/s", ORIGINAL, at_least=1, of_record=2_046, ours=rate.ours)
        for name, rate in zip(names[:2], rates, strict=False)
    ]
    return [*rates, *against_the_original, *slowest, *costs]


def lists(url: str, place: Place, backends: Backends) -> list[Figure]:
    """A user's five coupons of forty thousand."""
    held = list(held_coupons(HELD))
    for first in range(0, len(held), 1_000):
        backends.search.index_many(held[first : first + 1_000])
    time.sleep(2)  # until they are found
    figure = Figure("lists of a user's 5 coupons of 40,000", "1/s", ORIGINAL, at_least=1, of_record=1_620)
    beside = Figure(figure.name, "1/s", "the same search sent to Elasticsearch bare")
    users = [coupon.user_id for coupon in held[::HELD_BY_EACH]]
    script = paths([f"/v1/users/{user}/coupons" for user in users], place.new_folder())
    index = "/_all/_search?filter_path=hits.hits._source"
    bare = bodies(index, [search_of(user) for user in users], place.new_folder())
    load(url, script, WARM_UP_S, place.folder, failed_max=1)  # a cold Elasticsearch is slow, and some are refused
    for _ in range(ROUNDS):
        figure.ours.append(load(url, script, folder=place.folder).rate)
        beside.against.append(load(f"http://{place.services.elasticsearch}", bare, folder=place.folder).rate)
    beside.ours = figure.ours
    return [figure, beside]


def search_of(user_id: str | None) -> str:
    """As ours is."""
    return json.dumps(
        {
            "query": {"bool": {"filter": [{"term": {"userId": user_id}}]}},
            "sort": ["couponCode"],
            "search_after": [""],
            "size": 101,
            "track_total_hits": False,
        }
    )


def large(running: Deployment) -> list[Figure]:
    """One POST of many coupons, until it is accepted."""
    found = []
    for amount, most_s in ((20_000, 0.2), (1_000_000, 2)):
        figure = Figure(f"one POST of {amount:,}", "s", at_most=most_s)
        for _ in range(ROUNDS):
            began = time.monotonic()
            answer = running.session.post(f"{running.url}/v1/coupons", json=CREATION | {"amount": amount}, timeout=30)
            figure.ours.append(time.monotonic() - began)
            assert answer.status_code == 202, answer.text
        found.append(figure)
    return found


def beside_a_worker(url: str, bare: str) -> list[Figure]:
    """Of creations of one, while a worker applies millions that wait."""
    figure = Figure("accepted creations of one beside a busy worker", "1/s", "an empty Flask view beside it too")
    slow = Figure("the same, p99: creations of one beside a busy worker", "ms")
    for _ in range(ROUNDS):
        figure.against.append(load(bare).rate)
        seen = load(f"{url}/v1/coupons", same("POST", CREATION))
        figure.ours.append(seen.rate)
        slow.ours.append(seen.p99_ms)
    return [figure, slow]


def memory(running: Deployment) -> list[float]:
    return [rss_peak_mb(pid) for pid in children(running.process.pid)]


def issue_and_cancel(service: CommandService, codes: Sequence[str]) -> None:
    """Afterwards the cache has the coupons, held by nobody."""

    def both(code: str) -> None:
        service.change(Kind.ISSUE, code, "ann", Caller("bench"))
        service.change(Kind.CANCEL, code, None, Caller("bench"))

    with quiet(), ThreadPoolExecutor(16) as pool:
        list(pool.map(both, codes))


def held_coupons(amount: int) -> Iterator[Coupon]:
    """Each user holds ``HELD_BY_EACH``."""
    for number in range(amount):
        coupon = create(a_creation(), f"{number:019d}")
        issued = a_command(Kind.ISSUE, "i", user_id=f"user{number // HELD_BY_EACH}", code=coupon.code)
        yield transition(coupon, issued)
