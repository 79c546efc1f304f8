"""The configuration: environment variables, with the file that ``COUPON_CONF`` names beneath them.

``Settings`` declares each setting once, with its type, its range and its default; ``load`` reads and checks them at
start. Anything unknown or impossible is a ConfigurationError that names the setting, its value and what is accepted.
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from dotenv import dotenv_values
from msgspec import Meta
from msgspec.inspect import IntType, LiteralType, Metadata, StrType, type_info

from coupon.domain.errors import ConfigurationError, NotInitialized
from coupon.ports.url import Url
from coupon.runtime.keyring import keys_of, read_file

PREFIX = "COUPON_"
DEFAULT_CONF = "conf/embedded.env"
PACKAGED_CONF = Path(__file__).with_name("embedded.env")
"""The same file, for who has no checkout: in one it is a link."""
SECRET_MIN = 16
UTC = ZoneInfo("UTC")
TimeZone = Annotated[ZoneInfo, Meta(description="a time zone of the IANA database, such as UTC or Asia/Seoul")]
HeaderName = Annotated[
    str,
    Meta(
        pattern=r"\A(?!(?i:host|content-type|content-length)\Z)[!#$%&'*+\-.^`|~0-9A-Za-z]+\Z",
        description="a name for a header of its own, such as X-Caller, without _, which gunicorn drops",
    ),
]
HostNames = Annotated[
    str, Meta(pattern=r"\A[0-9A-Za-z.:_,\[\]-]*\Z", description="names of hosts, separated by commas, without ports")
]
IfMissing = Literal["make", "refuse", "ignore"]
BackendUrl = Annotated[str, Meta(description="a URL, such as sqlite:///data/store.db")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. In the environment, ``queue_url`` is ``COUPON_QUEUE_URL``, and so on."""

    cache_url: BackendUrl
    queue_url: BackendUrl
    store_url: BackendUrl
    search_url: BackendUrl
    secret: Annotated[str, Meta(min_length=SECRET_MIN)] = ""
    secret_file: str = ""
    keyring_file: str = ""
    timezone: TimeZone = UTC
    topics: Literal["single", "per-command"] = "single"
    max_amount: Annotated[int, Meta(ge=1, le=10_000_000)] = 1_000_000
    creations_max: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 20_000_000
    creations_caller_max: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 10_000_000
    max_body_bytes: Annotated[int, Meta(ge=1_000, le=1_000_000)] = 65_536
    cache_ttl_s: Annotated[int, Meta(ge=10, le=30 * 86_400)] = 3_600
    key_hours: Annotated[int, Meta(ge=1, le=720)] = 24
    reservation_ttl_s: Annotated[int, Meta(ge=1, le=60)] = 8
    reservation_wait_ms: Annotated[int, Meta(ge=1, le=4_000)] = 300
    batch_max: Annotated[int, Meta(ge=1, le=10_000)] = 500
    predecessor_wait_s: Annotated[int, Meta(ge=1, le=86_400)] = 600
    dead_letters_in_a_row: Annotated[int, Meta(ge=1, le=1_000_000)] = 20
    heartbeat_file: str = "data/worker.heartbeat"
    auth: Literal["keys", "gateway"] = "keys"
    worker_metrics: str = ""
    caller_header: HeaderName = "X-Caller"
    role_header: HeaderName = "X-Role"
    hosts: HostNames = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_jwks: str = ""
    commands_per_s: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    reads_per_s: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    guesses_per_minute: Annotated[int, Meta(ge=0, le=1_000_000)] = 20
    proxies: Annotated[int, Meta(ge=0, le=10)] = 0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"

    def masked(self) -> dict[str, Any]:
        """Every setting by its name in the environment, secrets masked. The options of a URL are masked, too: only its
        backend knows them (``Backends.urls``)."""
        shown = {_variable(field.name): getattr(self, field.name) for field in fields(self)}
        shown["COUPON_SECRET"] = "***" if self.secret else ""
        shown["COUPON_TIMEZONE"] = self.timezone.key
        shown["COUPON_JWT_JWKS"] = _masked_address(self.jwt_jwks)
        return {name: str(Url(v)) if name.endswith("_URL") else v for name, v in shown.items()}

    def __repr__(self) -> str:
        return f"Settings({self.masked()})"

    def database_files(self) -> Iterator[tuple[str, Path]]:
        """The SQLite file of each role that has one, by the name of its setting."""
        for name in (field.name for field in fields(self) if field.name.endswith("_url")):
            url = Url(getattr(self, name))
            if url.scheme == "sqlite":
                with suppress(ConfigurationError):  # the backend itself says what is wrong with it
                    yield _variable(name), Path(url.file())


TYPES = get_type_hints(Settings, include_extras=True)
"""Of each setting, with what is accepted."""
OWN_FILES = ("secret_file", "keyring_file", "heartbeat_file")
_REQUIRED = ("cache_url", "queue_url", "store_url", "search_url")


def load(environ: Mapping[str, str] | None = None, *, if_missing: IfMissing = "make") -> Settings:
    """The settings of this process; raises ConfigurationError. A missing secret file is made, refused, or ignored: then
    the secret is empty.

    A setting that is empty counts as not set, so that the environment can take away what the file has."""
    texts = _texts(os.environ if environ is None else environ)
    values, wrong = {}, [*_unknown(texts), *_missing(texts)]
    for name in sorted(texts.keys() & TYPES.keys()):
        try:
            values[name] = msgspec.convert(texts[name], TYPES[name], strict=False, dec_hook=_time_zone)
        except msgspec.ValidationError:
            wrong.append(f"{_shown(name, texts[name])} is not {accepted(TYPES[name])}")
    if wrong:
        raise ConfigurationError("; ".join(wrong))
    settings = Settings(**values)
    _ensure_urls(settings)
    _ensure_own_files(settings)
    settings = replace(settings, secret=settings.secret or _read_secret(Path(settings.secret_file), if_missing))
    _ensure_keyring(settings, if_missing)
    return settings


def log_format(environ: Mapping[str, str] | None = None) -> str:
    """``json`` or ``text``, for who logs before the settings are known to be right, and when they are wrong."""
    try:
        texts = _texts(os.environ if environ is None else environ)
    except ConfigurationError:
        return "json"
    return "text" if texts.get("log_format") == "text" else "json"


def accepted(kind: Any) -> str:
    """The accepted values of a setting of that type, as the end of a sentence."""
    match type_info(kind):
        case Metadata(extra_json_schema={"description": str(description)}):
            return description
        case IntType(ge=int(low), le=int(high)):
            return f"a whole number from {low:,} to {high:,}"
        case LiteralType():
            return f"one of {', '.join(get_args(kind))}"
        case StrType(min_length=int(length)):
            return f"a text of at least {length} characters"
    return "a text"


def _texts(environ: Mapping[str, str]) -> dict[str, str]:
    """The texts of the environment, and of the file for variables that it lacks, by the names of the fields."""
    conf = environ.get("COUPON_CONF") or (DEFAULT_CONF if Path(DEFAULT_CONF).is_file() else str(PACKAGED_CONF))
    if not Path(conf).is_file():
        raise ConfigurationError(f"COUPON_CONF={conf!r} is not a file (from {Path.cwd()})")
    try:
        both = {**dotenv_values(conf, interpolate=False), **environ}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigurationError(f"COUPON_CONF={conf!r} cannot be read: {reason}") from error
    return {
        name.removeprefix(PREFIX).lower(): text
        for name, text in both.items()
        if name.startswith(PREFIX) and name != "COUPON_CONF" and text
    }


def _unknown(texts: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(texts.keys() - TYPES.keys()):
        similar = get_close_matches(name, TYPES, 1)
        hint = f": is {_variable(similar[0])} meant?" if similar else ""
        shown = _shown(name, texts[name], meant=similar[0] if similar else "secret")
        yield f"{shown} is not a setting{hint}"


def _missing(texts: Mapping[str, str]) -> Iterator[str]:
    for name in _REQUIRED:
        if name not in texts:
            yield f"{_variable(name)} is missing: it is {accepted(TYPES[name])}"
    if ("secret" in texts) == ("secret_file" in texts):
        yield f"COUPON_SECRET and COUPON_SECRET_FILE are {'both' if 'secret' in texts else 'not'} set: set one of them"


def _time_zone(_: type, name: str) -> ZoneInfo:
    if name not in available_timezones():
        raise ValueError(name)
    return ZoneInfo(name)


def _ensure_urls(settings: Settings) -> None:
    for name in _REQUIRED:
        try:
            Url(getattr(settings, name))
        except ConfigurationError as error:
            raise ConfigurationError(f"{_variable(name)}: {error}") from error


def _ensure_own_files(settings: Settings) -> None:
    """Two backends in one file would overwrite, or lock, each other's data."""
    own = [*settings.database_files()]
    own += [(_variable(name), Path(getattr(settings, name))) for name in OWN_FILES]
    users: dict[str, str] = {}
    for name, path in own:
        other = users.setdefault(os.path.realpath(path), name)
        if other != name and path.name:
            raise ConfigurationError(
                f"{name} names the file {str(path)!r}, as {other} does: each of them needs a file of its own"
            )


def _ensure_keyring(settings: Settings, missing: IfMissing) -> None:
    """A file that is missing is never made: a process without it would sign with a key that is retired."""
    path = Path(settings.keyring_file)
    try:
        keys_of(settings.secret, read_file(path if settings.keyring_file else None))
    except (OSError, UnicodeDecodeError, ConfigurationError) as error:
        if isinstance(error, FileNotFoundError) and missing == "ignore":
            return
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"COUPON_KEYRING_FILE={str(path)!r}: {reason} (from {Path.cwd()})") from error


def _masked_address(address: str) -> str:
    """Without credentials and query."""
    path, question, _ = re.sub("(?<=//)[^/]*@", "***@", address).partition("?")
    return f"{path}?***" if question else path


def _variable(name: str) -> str:
    """The field's name in the environment."""
    return PREFIX + name.upper()


def _shown(name: str, text: str, meant: str = "") -> str:
    """The setting and its value, but no secret, also of the setting that is meant by the name."""
    names = {name, meant or name} - {"secret_file"}
    is_secret = any("secret" in each or each.endswith("_url") for each in names)
    return _variable(name) if is_secret else f"{_variable(name)}={text!r}"


def _read_secret(path: Path, missing: IfMissing) -> str:
    setting = f"COUPON_SECRET_FILE={str(path)!r}"
    try:
        if missing == "make" and not path.exists():
            _make_secret(path)
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError) and missing == "ignore":
            return ""
        if isinstance(error, FileNotFoundError) and missing == "refuse":
            raise NotInitialized(
                f"{setting} is missing (from {Path.cwd()}): run coupon init, or go to the service's directory"
            ) from error
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigurationError(f"{setting} cannot be read or made by this user: {reason}") from error
    if len(secret) < SECRET_MIN:
        raise ConfigurationError(f"{setting} holds fewer than {SECRET_MIN} characters")
    return secret


def _make_secret(path: Path) -> None:
    """Write a random secret. Of several processes that start at once, one makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48) + "\n")
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
