"""Who does what, for Locust: marketing creates coupons; apps issue, use and cancel them, and ask.

What a rule of the domain refuses (409) is an answer as good as any, and counted under a name of its own. Everything
else that was not asked for is a failure.
"""

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import gevent
from locust import FastHttpUser, LoadTestShape, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from tests.load.shape import Shape
from tests.load.shelves import MOVES, Piece, Shelves

MARKETING_SHARE = 0.1
"""Of the users."""
CREATION_SHARE = 0.01
"""Of the commands; with it, a few more coupons are created than issued."""
AMOUNT_MAX, LARGE, LARGE_SHARE = 100, 5_000, 0.002
FULL = 10
"""So many creations of ``AMOUNT_MAX`` first, so that the apps have something to begin with."""
TODAY_SHARE = 0.02
"""Of the creations, whose coupons can be used for the last time today."""
AGAIN_SHARE = 0.02
"""Of the accepted commands, sent once more with the same key, as if the answer had been lost."""
TWICE_SHARE = 0.03
"""Of the commands, on a coupon that has seen that very command: a second click."""
WAIT_SHARE, WAIT_S = 0.05, 5
"""Of the commands, whose sender prefers to wait for the outcome."""
PATIENCE_S, PAUSE_S, PAUSE_MAX_S = 60.0, 0.1, 1.0
"""Of marketing, until new coupons are there, and between two looks."""
CUSTOMERS = 10_000
PAGE, CODES_PAGE = 20, 1_000
"""Coupons on an app's screen; codes for marketing's list."""
TURN_SHARE = 0.5
"""Of those who see that there is a next page, and turn to it."""
CATCH_UP_S = 5.0
GOOD = {HTTPStatus.OK, HTTPStatus.ACCEPTED}


def _amounts() -> Iterator[int]:
    yield from repeat(AMOUNT_MAX, FULL)
    while True:
        yield LARGE if random.random() < LARGE_SHARE else random.randint(1, AMOUNT_MAX)


shelves, amounts = Shelves(), _amounts()


class Ramps(LoadTestShape):
    """The shape, with ``--users`` at its plateau, for ``--run-time``."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        parsed = self.runner.environment.parsed_options
        users = Shape(parsed.run_time, parsed.num_users).users_at(self.get_run_time())
        return (users, parsed.num_users) if users else None


class Answer(NamedTuple):
    """``good``: neither refused nor failed. ``place`` is the operation's address."""

    good: bool
    body: dict[str, Any]
    place: str


class Caller(FastHttpUser):
    """Acts at random times, ``steps_per_s`` on average; steps that came too late are caught up with."""

    abstract = True
    steps_per_s = 1.0

    def on_start(self) -> None:
        self._due = time.monotonic()

    def wait_time(self) -> float:
        now = time.monotonic()
        self._due = max(self._due, now - CATCH_UP_S) + random.expovariate(self.steps_per_s)
        return max(self._due - now, 0)

    def ask(self, path: str, name: str) -> Answer:
        return self._send("GET", path, name)

    def command(self, method: str, path: str, name: str, body: dict[str, Any]) -> Answer:
        """Send it; now and then wait for its outcome, now and then send it again."""
        headers = {"Idempotency-Key": uuid.uuid4().hex, "X-Caller": type(self).__name__.lower()}
        waits = random.random() < WAIT_SHARE
        preference = {"Prefer": f"wait={WAIT_S}"} if waits else {}
        answer = self._send(method, path, name, body, headers | preference, ", outcome awaited" if waits else "")
        if answer.good:
            shelves.operations.append(answer.place)
            if random.random() < AGAIN_SHARE:
                self._send(method, path, name, body, headers, ", again", answer.body["operationId"])
        return answer

    def pages(self, path: str, name: str, limit: int, turns: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """A list, page by page, as long as the caller turns to the next one."""
        answer = self.ask(f"{path}?limit={limit}", name)
        while answer.good:
            yield answer.body
            if not answer.body["next"] or not turns():
                return
            answer = self.ask(f"{path}?limit={limit}&cursor={quote(answer.body['next'])}", f"{name}, next page")

    def _send(
        self,
        method: str,
        path: str,
        name: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        manner: str = "",
        operation: str | None = None,
    ) -> Answer:
        """Counted by its name and manner, or by its name and why it was refused. ``operation`` is the one that has to
        be told."""
        with self.client.request(
            method, path, name=name + manner, json=body, headers=headers, catch_response=True
        ) as response:
            content, status = _json_of(response), response.status_code
            refused = status == HTTPStatus.CONFLICT and method != "GET"
            if status not in GOOD and not refused:
                response.failure(f"{status} {content.get('code') or getattr(response, 'error', '')}")
            elif operation not in (None, content.get("operationId")):
                response.failure("another operation than the first time")
            else:
                response.success()
                if "code" in content:
                    response.request_meta["name"] = f"{name}: {content['code']}"
            return Answer(status in GOOD, content, response.headers.get("Location", "") if status in GOOD else "")


class Marketing(Caller):
    """Creates coupons, takes their codes when they are there, and looks at what expires."""

    @task(9)
    def create(self) -> None:
        amount = next(amounts)
        today = datetime.now(UTC).date()
        last = today if random.random() < TODAY_SHARE else today + timedelta(30)
        body = {"amount": amount, "validFrom": f"{today - timedelta(1)}", "expireAt": f"{last}"}
        answer = self.command("POST", "/v1/coupons", "create 5,000" if amount == LARGE else "create", body)
        if answer.good and self._is_applied(answer.place):
            for page in self.pages(answer.place, "codes of a creation", CODES_PAGE, lambda: True):
                shelves.create(page["couponCodes"])

    @task(1)
    def look_at_what_expires(self) -> None:
        for _ in self.pages("/v1/coupons/expired/today", "expired today", CODES_PAGE, _turns):
            pass

    def _is_applied(self, place: str) -> bool:
        deadline, pause_s = time.monotonic() + PATIENCE_S, PAUSE_S
        while time.monotonic() < deadline:
            answer = self.ask(f"{place}?limit=1", "operation of a creation")
            if not answer.good or answer.body["status"] == "applied":
                return answer.good
            gevent.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)
        return False


class App(Caller):
    """Issues coupons to its users, uses them, takes some back, and shows them."""

    @task(30)
    def issue(self) -> None:
        self._change("issue")

    @task(20)
    def use(self) -> None:
        self._change("use")

    @task(5)
    def cancel(self) -> None:
        self._change("cancel")

    @task(5)
    def cancel_use(self) -> None:
        self._change("cancel-use")

    @task(15)
    def read_a_coupon(self) -> None:
        if code := shelves.any_code():
            self.ask(f"/v1/coupons/{code}", "read a coupon")

    @task(10)
    def list_of_a_user(self) -> None:
        for _ in self.pages(f"/v1/users/{_somebody()}/coupons", "list of a user", PAGE, _turns):
            pass

    @task(15)
    def ask_for_an_outcome(self) -> None:
        if shelves.operations:
            self.ask(f"{random.choice(shelves.operations)}?limit=1", "operation")

    def _change(self, command: str) -> None:
        """One coupon in whose state it works; now and then one that it was done to already. Without any, issue."""
        move = MOVES[command]
        shelf = move.target if random.random() < TWICE_SHARE else move.source
        piece = shelves.take(shelf)
        if piece is None:
            return self._change("issue") if shelf != "fresh" else None
        if shelf == "fresh" and command == "issue":
            piece = Piece(piece.code, _somebody())
        user = {"userId": piece.user_id} if command in ("issue", "use") else {}
        answer = self.command("PUT", f"/v1/coupons/{command}", command, {"couponCode": piece.code} | user)
        if answer.good or shelf == move.target:
            shelves.put(move.target, piece)
        return None


@events.init_command_line_parser.add_listener
def options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--rate", type=float, default=300, help="commands a second at the plateau")
    parser.add_argument("--counts", type=Path, help="where to write what was counted")


@events.init.add_listener
def share_out(environment: Environment, **_: Any) -> None:
    """Some of the users are marketing's, and each of all does its part of the rate."""
    parsed = environment.parsed_options
    assert parsed is not None
    Marketing.fixed_count = max(1, round(parsed.num_users * MARKETING_SHARE))
    apps = parsed.num_users - Marketing.fixed_count
    rate = parsed.rate / (1 + AGAIN_SHARE)
    Marketing.steps_per_s = rate * CREATION_SHARE / Marketing.fixed_count / _share(Marketing, "create")
    App.steps_per_s = rate * (1 - CREATION_SHARE) / apps / _share(App, "issue", "use", "cancel", "cancel_use")


@events.quitting.add_listener
def write_counts(environment: Environment, **_: Any) -> None:
    """All of it. (Locust's own CSV files end up to a second early, its JSON knows no errors.)"""
    parsed, runner = environment.parsed_options, environment.runner
    assert parsed is not None
    assert runner is not None
    counts = {
        "entries": [entry.serialize() for entry in runner.stats.entries.values()],
        "errors": [error.to_dict() for error in runner.stats.errors.values()],
        "exceptions": [{name: it[name] for name in ("count", "msg", "traceback")} for it in runner.exceptions.values()],
    }
    if parsed.counts:
        parsed.counts.write_text(json.dumps(counts))


def _share(user: type[Caller], *names: str) -> float:
    """Of the user's tasks."""
    return sum(it.__name__ in names for it in user.tasks) / len(user.tasks)


def _somebody() -> str:
    """A few have much, many have little."""
    return f"customer{int(CUSTOMERS * random.random() ** 3)}"


def _turns() -> bool:
    return random.random() < TURN_SHARE


def _json_of(response: Any) -> dict[str, Any]:
    try:
        body = response.json()
    except (TypeError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}
