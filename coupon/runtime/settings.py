"""The configuration: environment variables, with the file that ``COUPON_CONF`` names beneath them.

Read and validated once, at start. Anything unknown or impossible is a ConfigurationError that names it.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo, available_timezones

from dotenv import dotenv_values
from marshmallow import RAISE, Schema, ValidationError, post_load, validate
from marshmallow import fields as f

from coupon.ports.url import ConfigurationError, Url

PREFIX = "COUPON_"
DEFAULT_CONF = "conf/embedded.env"
SECRET_MIN = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; the name of each in the environment is ``COUPON_`` and its name in capitals."""

    cache_url: str
    queue_url: str
    store_url: str
    search_url: str
    secret: str
    timezone: ZoneInfo
    topics: str
    max_amount: int
    creations_max: int
    creations_caller_max: int
    max_body_bytes: int
    cache_ttl_s: int
    key_hours: int
    reservation_ttl_s: int
    reservation_wait_ms: int
    batch_max: int
    predecessor_wait_s: int
    dead_letters_in_a_row: int
    heartbeat_file: str
    caller_header: str
    log_level: str
    log_format: str

    def masked(self) -> dict[str, Any]:
        """Every setting by its name in the environment, secrets masked."""
        shown = {PREFIX + field.name.upper(): getattr(self, field.name) for field in fields(self)}
        shown["COUPON_SECRET"] = "***"  # noqa: S105 - it is the mask
        shown["COUPON_TIMEZONE"] = self.timezone.key
        return {name: str(Url(v)) if name.endswith("_URL") else v for name, v in shown.items()}


def _number(default: int, low: int, high: int) -> f.Integer:
    return f.Integer(load_default=default, validate=validate.Range(low, high))


class SettingsSchema(Schema):
    """What each setting may be. ``conf/embedded.env`` explains them."""

    class Meta:
        unknown = RAISE

    error_messages: ClassVar = {"unknown": "There is no such setting."}  # type: ignore[misc]

    cache_url = f.String(required=True)
    queue_url = f.String(required=True)
    store_url = f.String(required=True)
    search_url = f.String(required=True)
    secret = f.String(validate=validate.Length(min=SECRET_MIN))
    secret_file = f.String()
    timezone = f.String(load_default="UTC")
    topics = f.String(load_default="single", validate=validate.OneOf(["single", "per-command"]))
    max_amount = _number(1_000_000, 1, 10_000_000)
    creations_max = _number(20_000_000, 1, 1_000_000_000)
    creations_caller_max = _number(10_000_000, 1, 1_000_000_000)
    max_body_bytes = _number(65_536, 1_000, 1_000_000)
    cache_ttl_s = _number(3_600, 10, 30 * 86_400)
    key_hours = _number(24, 1, 720)
    reservation_ttl_s = _number(8, 1, 60)
    reservation_wait_ms = _number(300, 1, 4_000)
    batch_max = _number(500, 1, 10_000)
    predecessor_wait_s = _number(600, 1, 86_400)
    dead_letters_in_a_row = _number(20, 1, 1_000_000)
    heartbeat_file = f.String(load_default="data/worker.heartbeat")
    caller_header = f.String(load_default="X-Caller")
    log_level = f.String(load_default="info", validate=validate.OneOf(["debug", "info", "warning", "error"]))
    log_format = f.String(load_default="json", validate=validate.OneOf(["json", "text"]))

    @post_load
    def build(self, data: dict[str, Any], **_: Any) -> Settings:
        if data["timezone"] not in available_timezones():
            raise ValidationError("is not a time zone of the IANA database, such as UTC or Asia/Seoul", "timezone")
        data["timezone"] = ZoneInfo(data["timezone"])
        secret_file = data.pop("secret_file", None)
        if ("secret" in data) == (secret_file is not None):
            raise ValidationError("set either this or COUPON_SECRET_FILE", "secret")
        if secret_file is not None:
            try:
                data["secret"] = _secret_of(Path(secret_file))
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is no text"
                raise ValidationError(f"cannot be read or made by this user: {reason}", "secret_file") from error
        return Settings(**data)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; raises ConfigurationError. One that is empty is as good as not there, so that the
    environment can take away what the file has."""
    environ = os.environ if environ is None else environ
    conf = environ.get("COUPON_CONF", DEFAULT_CONF)
    if not Path(conf).is_file():
        raise ConfigurationError(f"COUPON_CONF={conf!r} is not a file (from {Path.cwd()})")
    values = {**dotenv_values(conf, interpolate=False), **environ}
    ours = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in values.items()
        if name.startswith(PREFIX) and name != "COUPON_CONF" and value
    }
    try:
        settings: Settings = SettingsSchema().load(ours)
    except ValidationError as error:
        raise ConfigurationError(_sentences(error, ours)) from error
    for url in (settings.cache_url, settings.queue_url, settings.store_url, settings.search_url):
        Url(url)
    return settings


def _sentences(error: ValidationError, given: Mapping[str, str | None]) -> str:
    """One sentence a setting that is wrong, secrets not shown."""
    sentences = []
    for name, problems in sorted(error.messages_dict.items()):
        value = f"={given[name]!r}" if name in given and name != "secret" else ""
        sentences.append(f"{PREFIX}{name.upper()}{value}: {' '.join(map(str, problems))}")
    return "; ".join(sentences)


def _secret_of(path: Path) -> str:
    """The secret in the file, which is made with a random one when it is missing; of several processes that start at
    once, one makes it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48) + "\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    secret = path.read_text().strip()
    if len(secret) < SECRET_MIN:
        raise ValidationError(f"{str(path)!r} holds fewer than {SECRET_MIN} characters", "secret_file")
    return secret
