"""The examples of the OpenAPI document, told by an application: ``python -m tests.web.story`` writes them.

Secret, clock and keys are given, so that it answers the same each time. What differs is made the same.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask.testing import FlaskClient
from jwt.algorithms import OKPAlgorithm

from coupon.domain.topics import all_topics
from coupon.runtime import settings
from coupon.runtime.wiring import Backends, open_backends
from coupon.web import create_app
from coupon.worker.worker import Worker, join

FILE = Path(__file__).parents[2] / "coupon" / "web" / "examples.json"
NOW, DAY_MS = 1_795_362_043_123, 86_400_000
"""2026-11-22T15:40:43.123Z."""
FIRST, LAST, TODAY = "2026-11-01", "2030-12-31", "2026-11-22"
LATER_MS, VERSION = 2_000, "0.1.0"
CREATE, ISSUE, USE = "POST /v1/coupons", "PUT /v1/coupons/issue", "PUT /v1/coupons/use"
CANCEL, CANCEL_USE = "PUT /v1/coupons/cancel", "PUT /v1/coupons/cancel-use"
COUPON, OPERATION = "GET /v1/coupons/<code>", "GET /v1/operations/<address>"
MINE = "GET /v1/me/coupons"
HELD, EXPIRING = "GET /v1/users/<text:user_id>/coupons", "GET /v1/coupons/expired/today"
LIVEZ, READYZ, METRICS = "GET /livez", "GET /readyz", "GET /metrics"
WAIT = {"Prefer": "wait=5"}


LOGIN, NEVER = Ed25519PrivateKey.from_private_bytes(b"of those who log users in".ljust(32)), 4_102_444_800


class Story:
    """What was asked, and what was answered, by address."""

    def __init__(self, folder: Path) -> None:
        environ = {
            "COUPON_CONF": "conf/test.env",
            "COUPON_SECRET": "the secret of the examples",
            "COUPON_HEARTBEAT_FILE": str(folder / "heartbeat"),
            "COUPON_CREATIONS_CALLER_MAX": "1000",
            "COUPON_LOG_LEVEL": "error",
            "COUPON_JWT_ISSUER": "https://login.example",
            "COUPON_JWT_AUDIENCE": "coupons",
            "COUPON_JWT_JWKS": str(folder / "jwks.json"),
        }
        jwk = OKPAlgorithm.to_jwk(LOGIN.public_key())
        (folder / "jwks.json").write_text(f'{{"keys": [{jwk}]}}')
        self.now, self.ms, self.examples = NOW, 0, dict[str, dict[str, Any]]()
        loaded = settings.load(environ)
        self.backends: Backends = open_backends(loaded)
        self.backends.queue.create(all_topics(loaded.topics))
        self.backends.store.create()
        self.backends.search.create()
        self.client: FlaskClient = create_app(loaded, self.backends, self.clock, self.timer).test_client()
        self._worker = Worker(self.backends, loaded, join(self.backends, loaded), clock=self.clock)

    def clock(self) -> int:
        return self.now

    def timer(self) -> int:
        return self.ms

    def login(self, user_id: str) -> dict[str, str]:
        """The header of the user's own requests."""
        claims = {"iss": "https://login.example", "aud": "coupons", "sub": user_id, "exp": NEVER}
        return {"Authorization": f"Bearer {jwt.encode(claims, LOGIN, algorithm='EdDSA')}"}

    def work(self) -> None:
        while self._worker.run_once(poll_s=0):
            pass
        self.ms += LATER_MS

    def ask(self, address: str, body: Any = None, headers: Mapping[str, str] | None = None, /, **path: str) -> Any:
        """The body of the response, which becomes an example. The first request that succeeds becomes one, too."""
        told, status = self._answered(address, path, json=body, headers=headers or {})
        if status < 400:
            shown = self._shown(address)
            shown |= {name: value for name, value in (("request", body), ("path", path)) if value and name not in shown}
        return told

    def send(self, address: str, query: str = "", **request: Any) -> None:
        """A request that is no example, to the path of the one that is. Its response may be one."""
        self._answered(address, self._shown(address).get("path", {}), query, **request)

    def _answered(self, address: str, path: Mapping[str, str], query: str = "", **request: Any) -> tuple[Any, int]:
        method, _, url = address.partition(" ")
        for name, value in path.items():
            url = url.replace(f"<{name}>", value).replace(f"<text:{name}>", value)
        answer = self.client.open(url + query, method=method, **request)
        told, shown = _steady(answer.get_json(force=True)), self._shown(address)
        if answer.status_code < 400:
            shown["answers"].setdefault(str(answer.status_code), told)
        else:
            shown["problems"].setdefault(told["code"], told)
        return told, answer.status_code

    def _shown(self, address: str) -> dict[str, Any]:
        return self.examples.setdefault(address, {"answers": {}, "problems": {}})

    def metric(self, name: str) -> str:
        """What explains that metric. Its numbers are those of this process."""
        lines = self.client.get("/metrics").text.splitlines(keepends=True)
        return "".join(line for line in lines if line.startswith("# ") and line.split()[2].startswith(name))

    def change(self, address: str, key: str, *, wait: bool = False, **body: str) -> Any:
        told = self.ask(address, body, {"Idempotency-Key": key} | (WAIT if wait else {}))
        self.work()
        return told

    def create(self, key: str, amount: int = 2, last: str = LAST, first: str = FIRST, **headers: str) -> list[str]:
        body = {"amount": amount, "validFrom": first, "expireAt": last}
        told = self.ask(CREATE, body, {"Idempotency-Key": key, **headers})
        self.work()
        codes: list[str] = told.get("couponCodes", [])
        return codes


def _steady(told: Any) -> Any:
    """Without what differs from run to run: how long the servers took."""
    for dependency in told.get("dependencies", {}).values():
        dependency["ms"] = 0.4
    return told | ({"version": VERSION} if "dependencies" in told else {})


def examples() -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder))
        for chapter in CHAPTERS:
            chapter(story)
        story.backends.close()
        return story.examples


def life_of_a_coupon(story: Story) -> None:
    """Each command is accepted, and sent again to see that it was applied."""
    story.create("campaign-11")
    code, other = story.create("campaign-11", **WAIT)
    creation = story.ask(CREATE, story.examples[CREATE]["request"], {"Idempotency-Key": "campaign-11"})
    story.ask(OPERATION, address=creation["operationId"])
    commands = [
        (ISSUE, {"couponCode": code, "userId": "ann"}),
        (USE, {"couponCode": code, "userId": "ann"}),
        (CANCEL_USE, {"couponCode": code}),
        (CANCEL, {"couponCode": code}),
    ]
    for number, (address, body) in enumerate(commands):
        story.change(address, f"order-{number}", **body)
        story.change(address, f"order-{number}", wait=True, **body)
        if address == USE:
            story.ask(COUPON, code=code)
            story.ask(HELD, user_id="ann")
            story.ask(MINE, None, story.login("ann"))
            refused_while_used(story, code, other)


def refused_while_used(story: Story, code: str, free: str) -> None:
    for address in (ISSUE, USE, CANCEL):
        story.change(address, "late", couponCode=code, **({"userId": "bob"} if address == ISSUE else {}))
    for address in (USE, CANCEL, CANCEL_USE):
        story.change(address, "early", couponCode=free)
    story.change(ISSUE, "other-1", couponCode=free, userId="ann")
    story.change(ISSUE, "other-2", couponCode=free, userId="bob")
    story.change(USE, "other-3", couponCode=free, userId="bob")
    story.change(CANCEL, "other-4", couponCode=free)


def days(story: Story) -> None:
    (early,) = story.create("next-month", 1, first="2026-12-01")
    story.change(ISSUE, "early-1", couponCode=early, userId="ann")
    story.change(USE, "early-2", couponCode=early, userId="ann")
    free, used = story.create("until-today", 2, last=TODAY)
    story.change(ISSUE, "today-1", couponCode=used, userId="bob")
    story.ask(EXPIRING)
    story.change(USE, "today-2", couponCode=used, userId="bob")
    story.now += DAY_MS
    story.change(ISSUE, "today-3", couponCode=free, userId="bob")
    story.change(CANCEL_USE, "today-4", couponCode=used)
    story.now -= DAY_MS
    (held,) = story.create("until-today-too", 1, last=TODAY)
    story.change(ISSUE, "today-5", couponCode=held, userId="bob")
    story.now += DAY_MS
    story.change(USE, "today-6", couponCode=held, userId="bob")
    story.change(CANCEL, "today-7", couponCode=held)
    story.now -= DAY_MS


def wrong_requests(story: Story) -> None:
    for address in (CREATE, ISSUE, USE, CANCEL, CANCEL_USE):
        story.send(address, data=b"{", content_type="application/json")
        story.send(address, data=b"amount=2", content_type="application/x-www-form-urlencoded")
        story.send(address, data=b" " * 65_537, content_type="application/json")
    (other,) = story.create("one-more", 1)
    for address in (ISSUE, USE, CANCEL, CANCEL_USE):
        holder = {"userId": "carl"} if address == ISSUE else {}
        story.ask(address, {"couponCode": "15BR0", **holder})
        story.ask(address, {"couponCode": other, **holder}, {"Idempotency-Key": "order-1"})
    story.ask(CREATE, {"amount": 0, "validFrom": LAST, "expireAt": FIRST})
    story.ask(CREATE, {"amount": 3, "validFrom": FIRST, "expireAt": LAST}, {"Idempotency-Key": "campaign-11"})
    story.ask(COUPON, code="15BR0")
    for address in (EXPIRING, HELD, OPERATION, MINE):
        headers = story.login("ann") if address == MINE else {}
        story.send(address, "?limit=5000", headers=headers)
        story.send(address, "?cursor=another-lists", headers=headers)


def unknown(story: Story) -> None:
    """Codes and addresses that nobody gave: they are no examples of requests."""
    for address in (ISSUE, USE, CANCEL, CANCEL_USE):
        holder = {"userId": "ann"} if address == ISSUE else {}
        story.send(address, json={"couponCode": "7QX2M-K4D9TZ-A81BC3EF", **holder})


def too_many(story: Story) -> None:
    for _ in range(2):
        story.send(CREATE, json={"amount": 900, "validFrom": FIRST, "expireAt": LAST})
    story.work()


def health(story: Story) -> None:
    story.ask(LIVEZ)
    story.examples[METRICS] = {"answers": {"200": story.metric("coupon_commands")}, "problems": {}}
    story.ask(READYZ)
    story.backends.store.close()
    story.ms += LATER_MS
    story.ask(READYZ)


CHAPTERS: list[Callable[[Story], None]] = [life_of_a_coupon, days, wrong_requests, unknown, too_many, health]


def written(told: Mapping[str, Any]) -> str:
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(examples()))
