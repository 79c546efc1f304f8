"""``coupon keys``."""

import re
from datetime import UTC, datetime

import click

from coupon.cli.context import session
from coupon.cli.output import in_line, json_option, result, say
from coupon.domain.api_keys import ROLES_OF_KEYS, ApiKey, ApiKeys, Role
from coupon.domain.clock import now_ms
from coupon.domain.serialization import instant
from coupon.runtime.api_keys import change_api_keys, read_api_keys

UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d{1,6})([smhd])")


class Duration(click.ParamType[int]):
    """Seconds, minutes, hours or days, such as ``24h``; in ms."""

    name = "duration"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "0":
            return 0
        match = _DURATION.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is no duration, such as 90d, 24h, 30m or 10s", param, ctx)
        return int(match[1]) * UNITS_MS[match[2]]


class Expiry(click.ParamType[int]):
    """A duration from now, or the UTC day with whose beginning it ends; as an instant in ms."""

    name = "expiry"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        now = now_ms()
        try:
            expires_at = int(datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1_000)
        except ValueError:
            expires_at = now + Duration().convert(value, param, ctx)
        if expires_at <= now:
            self.fail(f"{value!r} is not in the future", param, ctx)
        return expires_at


@click.group("keys", short_help="API keys: who may call the service.")
def command() -> None:
    """API keys: each has a name, which coupons' histories show, and a role. A change counts within a second."""


@command.command()
@click.option("--name", required=True, help="Whose key it is, such as shop-berlin.")
@click.option(
    "--role",
    required=True,
    type=click.Choice([role.value for role in ROLES_OF_KEYS]),
    help="app issues and uses coupons; operator creates and cancels, too; viewer reads; admin may do all.",
)
@click.option("--expires", type=Expiry(), metavar="DURATION|DAY", help="Such as 90d or 2027-01-01. Default: never.")
@click.option("--if-none", is_flag=True, help="Only if there is no key yet: for scripts that make the first one.")
@json_option
def create(name: str, role: str, expires: int | None, if_none: bool, as_json: bool) -> None:
    """Make a key, and show its token: once, as only a hash of it is stored."""

    def add(keys: ApiKeys) -> tuple[ApiKeys, str | None]:
        return (keys, None) if if_none and keys else keys.with_new(name, Role(role), now_ms(), expires)

    with session() as (_, backends):
        token = change_api_keys(backends.store, add)
    if token is None:
        say("there are keys already, so none was made")
    else:
        _show_token(as_json, token, name, role)


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """All keys, without their tokens. With --json one object a line."""
    with session() as (_, backends):
        keys = read_api_keys(backends.store)
    now = now_ms()
    for name, key in keys:
        expires = instant(key.expires_at) if key.expires_at else None
        valid = sum(now < key.end_of(token) for token in key.tokens)
        document = {
            "name": name,
            "role": key.role,
            "createdAt": instant(key.created_at),
            "expiresAt": expires,
            "validTokens": valid,
        }
        result(as_json, document, in_line(f"{name:<24}  {key.role:<8}  {_state(key, valid, expires)}"))
    if not keys:
        say("there is no key: whoever is on this machine may do all, and nobody else anything")


@command.command()
@click.argument("name")
@click.option("--last", is_flag=True, help="Also the last key: then whoever is on this machine may do all.")
def revoke(name: str, last: bool) -> None:
    """Refuse a key from now on, everywhere within a second."""
    with session() as (_, backends):
        left = change_api_keys(backends.store, lambda keys: _without(keys, name, last))
    say(f"the key {name!r} is revoked, {left:,} are left")


@command.command()
@click.argument("name")
@click.option(
    "--overlap",
    type=Duration(),
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How long the tokens that it has stay valid; 0 for not at all.",
)
@json_option
def rotate(name: str, overlap: int, as_json: bool) -> None:
    """Give a key a new token, and show it: once, as only a hash of it is stored."""
    now = now_ms()
    with session() as (_, backends):
        token, role = change_api_keys(backends.store, lambda keys: _rotated(keys, name, now, now + overlap))
    _show_token(as_json, token, name, role)


def _without(keys: ApiKeys, name: str, last: bool) -> tuple[ApiKeys, int]:
    changed = keys.without(name, last=last)
    return changed, len(changed.keys)


def _rotated(keys: ApiKeys, name: str, at: int, until: int) -> tuple[ApiKeys, tuple[str, str]]:
    changed, token = keys.with_another_token(name, at, until)
    return changed, (token, changed.keys[name].role)


def _show_token(as_json: bool, token: str, name: str, role: str) -> None:
    result(as_json, {"key": token, "name": name, "role": role}, token)
    if not as_json:
        say(f"the key {name!r} has the role {role}; this is the only time that it is shown. Send it as")
        say(f"Authorization: Bearer {token[:6]}…")


def _state(key: ApiKey, valid: int, expires: str | None) -> str:
    if not valid:
        return f"expired {expires}"
    until = f"expires {expires}" if expires else "never expires"
    return until if len(key.tokens) == 1 else f"{until}, {valid} valid tokens"
