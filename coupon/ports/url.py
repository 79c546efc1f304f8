"""One URL a backend: ``scheme://user:password@host:port,host:port/path?option=value``."""

import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from coupon.domain.errors import ConfigurationError


class Url:
    """A parsed backend URL. ``str()`` masks the password. Each method raises ConfigurationError.

    >>> url = Url("sqlite:///data/store.db?timeout_s=2")
    >>> url.scheme, url.path, url.options(timeout_s=5.0)
    ('sqlite', 'data/store.db', {'timeout_s': 2.0})
    """

    def __init__(self, text: str) -> None:
        try:
            parts = urlsplit(text)
        except ValueError as error:  # its text may hold the password
            scheme = text.partition("://")[0]
            raise ConfigurationError(
                f"a {scheme}:// URL has a [ that is no IPv6 address, or a character that no host has."
                " In a user or password, write %5B for [ and %5D for ]"
            ) from error
        if not parts.scheme or "://" not in text:
            shown = re.sub(r":[^:/]*@", ":***@", text)
            raise ConfigurationError(f"{shown!r} is not a URL: expected scheme://…, such as sqlite:///data/store.db")
        if parts.netloc and "@" in f"{parts.path}{parts.query}{parts.fragment}":  # it may hold half of a password
            raise ConfigurationError(
                f"a {parts.scheme}:// URL has an @ behind its host."
                " In a user or password, write %2F for /, %3F for ? and %23 for #; elsewhere, %40 for @"
            )
        credentials, _, hosts = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        self.scheme = parts.scheme
        self.user, self.password = unquote(user), unquote(password)
        self.hosts = [host for host in hosts.split(",") if host]
        """``host:port`` of each server, as written."""
        self.path = unquote(parts.path.removeprefix("/"))
        """``sqlite:///data/x.db`` is relative, ``sqlite:////var/x.db`` absolute."""
        try:
            self.query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError as error:
            raise ConfigurationError(f"the options of {self} are not written as name=value&name=value") from error
        self.in_force: dict[str, Any] = {}
        """The options with their defaults, once ``options`` was called."""

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
        unknown = set(self.query) - set(defaults)
        if unknown:
            accepted = ", ".join(sorted(defaults)) or "none"
            raise ConfigurationError(f"{self} has an unknown option {min(unknown)!r}; accepted: {accepted}")
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
        except (KeyError, ValueError) as error:
            accepted = {bool: "true or false", int: "a whole number above 0", float: "a number above 0"}[type(default)]
            raise ConfigurationError(f"{name}={text!r} in {self} is not {accepted}") from error
        return value

    def _address(self, host: str, default_port: int) -> tuple[str, int]:
        name, colon, port = host.rpartition(":")
        if not colon:
            return host, default_port
        if not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ConfigurationError(f"the port {port!r} in {self} is not a number from 1 to 65535")
        return name, int(port)

    def __str__(self) -> str:
        credentials = f"{self.user}:***@" if self.user else ""
        query = "?" + "&".join(f"{k}={v}" for k, v in self.query.items()) if getattr(self, "query", None) else ""
        return f"{self.scheme}://{credentials}{','.join(self.hosts)}/{self.path}{query}"
