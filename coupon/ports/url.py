"""One URL a backend: ``scheme://user:password@host:port,host:port/path?option=value``."""

import re
from typing import Any
from urllib.parse import parse_qsl, unquote

from coupon.domain.errors import ConfigurationError

MASK = "***"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_HOST = re.compile(r"([\w.-]+|\[[\w.:%]+\])(:[0-9]{1,5})?")
_CREDENTIALS = re.compile(r":.*@", re.DOTALL)
_OPTION = re.compile(r"[a-z_]{1,40}")
_SECRET = re.compile(r"secret|passw|token|credential|api_?key")


class Url:
    """A parsed backend URL. Each method raises ConfigurationError, with no secret in its text or its causes.

    ``str()`` masks what is a secret, or may be one: the password, what is no host where one belongs, and the values of
    options. Those that ``options`` has accepted are shown, unless their name tells of a secret.

    >>> url = Url("sqlite:///data/store.db?timeout_s=2")
    >>> url.scheme, url.path, url.options(timeout_s=5.0)
    ('sqlite', 'data/store.db', {'timeout_s': 2.0})
    >>> str(Url("redis://ann:s3cret@10.0.0.1/0"))
    'redis://ann:***@10.0.0.1/0'
    """

    def __init__(self, text: str) -> None:
        scheme, is_url, rest = text.strip().partition("://")
        if not is_url or not _SCHEME.fullmatch(scheme):
            shown = "this" if set(text) & set(":@?#") else repr(text)
            raise ConfigurationError(f"{shown} is not a URL: expected scheme://…, such as sqlite:///data/store.db")
        self.scheme = scheme.lower()
        authority, path, query = self._parts(rest)
        credentials, self._has_credentials, hosts = authority.rpartition("@")
        user, _, password = credentials.partition(":")
        self.user, self.password = unquote(user), unquote(password)
        self.hosts = [host for host in hosts.split(",") if host]
        """``host:port`` of each server, as written."""
        self.path = unquote(path.removeprefix("/"))
        """``sqlite:///data/x.db`` is relative, ``sqlite:////var/x.db`` absolute."""
        self.query: dict[str, str] = {}
        self.in_force: dict[str, Any] = {}
        """The options with their defaults, once ``options`` was called."""
        try:
            self.query = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        except ValueError:
            raise ConfigurationError(f"the options of {self} are not written as name=value&name=value") from None

    def _parts(self, rest: str) -> tuple[str, str, str]:
        """Authority, path and query. What may be the rest of a password is refused."""
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        path, _, query = rest[len(authority) :].partition("?")
        if "#" in path or "#" in query or "@" in query or (authority and "@" in path):
            raise ConfigurationError(
                f"a {self.scheme}:// URL has a # or an @ behind its host."
                " In a user or password, write %2F for /, %3F for ? and %23 for #; elsewhere, %23 for # and %40 for @"
            )
        return authority, path, query

    def file(self) -> str:
        """The path of the file that the URL names."""
        if self.hosts or not self.path:
            raise ConfigurationError(f"{self} names no file: sqlite:///data/x.db, or sqlite:////var/x.db")
        return self.path

    def addresses(self, default_port: int) -> list[tuple[str, int]]:
        """(host, port) of each server; 127.0.0.1 when none is named."""
        return [self._address(host, default_port) for host in self.hosts or ["127.0.0.1"]]

    def options(self, **defaults: Any) -> dict[str, Any]:
        """The options, with these defaults filled in. Each is converted to the type of its default."""
        self.in_force = dict(defaults)
        unknown = set(self.query) - set(defaults)
        if unknown:
            accepted, name = ", ".join(sorted(defaults)) or "none", _shown_name(min(unknown))
            raise ConfigurationError(f"{self} has an unknown option {name!r}; accepted: {accepted}")
        self.in_force = {name: self._option(name, default) for name, default in defaults.items()}
        return dict(self.in_force)

    def _option(self, name: str, default: Any) -> Any:
        if name not in self.query:
            return default
        text = self.query[name]
        try:
            if isinstance(default, bool):
                return {"true": True, "false": False}[text]
            value = type(default)(text)
            if isinstance(value, int | float) and (value < 0 or (value == 0 and default != 0)):
                raise ValueError(text)
        except (KeyError, ValueError):
            accepted = {bool: "true or false", int: "a whole number above 0", float: "a number above 0"}[type(default)]
            raise ConfigurationError(f"{name}={self._shown(name)!r} in {self} is not {accepted}") from None
        return value

    def _address(self, host: str, default_port: int) -> tuple[str, int]:
        name, colon, port = host.rpartition(":")
        if not colon or host.endswith("]"):
            return host, default_port
        if not port.isdecimal() or not 0 < int(port) < 65_536:
            shown = repr(port) if port.isdecimal() else "behind a :"
            raise ConfigurationError(f"the port {shown} in {self} is not a number from 1 to 65535")
        return name, int(port)

    def _shown(self, option: str) -> str:
        """The option's value, if it is no secret."""
        return self.query[option] if option in self.in_force and not _SECRET.search(option) else MASK

    def __str__(self) -> str:
        credentials = f"{self.user}:{MASK}@" if self._has_credentials else ""
        hosts = ",".join(host if _HOST.fullmatch(host) else MASK for host in self.hosts)
        path = MASK if _CREDENTIALS.search(self.path) else self.path
        options = "&".join(f"{_shown_name(name)}={self._shown(name)}" for name in self.query)
        return f"{self.scheme}://{credentials}{hosts}/{path}{'?' if options else ''}{options}"

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"


def _shown_name(option: str) -> str:
    """Of an option, or of what stands where one belongs."""
    return option if _OPTION.fullmatch(option) else MASK
