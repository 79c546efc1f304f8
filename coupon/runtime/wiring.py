"""The composition root: the one place where URLs become backends.

A scheme is looked up in ``BUILT_IN``, then among the entry points of the group ``coupon.<role>``. So the URL alone
chooses a third party's backend. Nothing is imported before it is chosen, nothing is opened before it is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar, cast

from coupon.domain.errors import ConfigurationError
from coupon.ports.backend import Backend
from coupon.ports.cache import Cache
from coupon.ports.queue import Queue
from coupon.ports.search import Search
from coupon.ports.store import Store
from coupon.ports.url import Url
from coupon.runtime.keyring import Keyring
from coupon.runtime.older_messages import OlderMessages
from coupon.runtime.settings import PREFIX, Settings
from coupon.runtime.signed_queue import SignedQueue

BUILT_IN = {
    "cache": {
        "memory": "backends.cache.memory:MemoryCache",
        "sqlite": "backends.cache.sqlite:SqliteCache",
        "memcached": "backends.cache.memcached:MemcachedCache",
        "redis": "backends.cache.redis:RedisCache",
    },
    "queue": {
        "memory": "backends.queue.memory:MemoryQueue",
        "sqlite": "backends.queue.sqlite:SqliteQueue",
        "kafka": "backends.queue.kafka:KafkaQueue",
        "redis": "backends.queue.redis:RedisQueue",
    },
    "store": {
        "memory": "backends.store.memory:MemoryStore",
        "sqlite": "backends.store.sqlite:SqliteStore",
        "dynamodb": "backends.store.dynamodb:DynamoStore",
    },
    "search": {
        "memory": "backends.search.memory:MemorySearch",
        "sqlite": "backends.search.sqlite:SqliteSearch",
        "elasticsearch": "backends.search.elasticsearch:ElasticsearchSearch",
        "mongodb": "backends.search.mongodb:MongoSearch",
    },
}
EXTRAS = {"redis": "redis", "mongodb": "mongodb"}
"""The extra of ``setup.cfg`` that brings the driver, by scheme. Drivers of the others are always installed."""
AnyBackend = TypeVar("AnyBackend", bound=Backend)


@dataclass(frozen=True, slots=True)
class Backends:
    """The four that a process runs on."""

    cache: Cache
    queue: Queue
    store: Store
    search: Search
    urls: Mapping[str, str] = field(default_factory=dict)
    """Where they are, by the names of the settings, secrets masked."""

    def close(self) -> None:
        for backend in (self.queue, self.cache, self.store, self.search):
            backend.close()


def open_backends(settings: Settings) -> Backends:
    """The backends that the settings name, the queue with signatures; raises ConfigurationError. Does no I/O."""
    urls = {role: Url(getattr(settings, f"{role}_url")) for role in BUILT_IN}
    queue = open_backend(Queue, urls["queue"])  # type: ignore[type-abstract]
    _ensure_a_reservation_outlives_a_publish(settings, urls["queue"])
    store = open_backend(Store, urls["store"])  # type: ignore[type-abstract]
    return Backends(
        cache=open_backend(Cache, urls["cache"]),  # type: ignore[type-abstract]
        queue=SignedQueue(queue, Keyring(settings.secret, settings.keyring_file), OlderMessages(store)),
        store=store,
        search=open_backend(Search, urls["search"]),  # type: ignore[type-abstract]
        urls={f"{PREFIX}{role.upper()}_URL": str(url) for role, url in urls.items()},
    )


def open_backend(contract: type[AnyBackend], url: str | Url) -> AnyBackend:
    """The backend of that role that the URL names; raises ConfigurationError."""
    role, url = contract.__name__.lower(), Url(url) if isinstance(url, str) else url
    setting = f"COUPON_{role.upper()}_URL={url}"
    backend = _backend_class(role, url.scheme, setting)
    if not issubclass(backend, contract):
        raise ConfigurationError(f"{setting}: {backend.__name__} is not a {contract.__name__}")
    try:
        return backend.from_url(url)
    except ConfigurationError as error:  # by now the URL shows the options that the backend takes
        raise ConfigurationError(f"COUPON_{role.upper()}_URL={url}: {error}") from error


def _ensure_a_reservation_outlives_a_publish(settings: Settings, queue_url: Url) -> None:
    """A reservation that expires before its publish has ended lets a rival build on the same coupon."""
    publish_s = queue_url.in_force.get("timeout_s", 0)
    if settings.reservation_ttl_s < publish_s:
        raise ConfigurationError(
            f"COUPON_RESERVATION_TTL_S={settings.reservation_ttl_s} is shorter than a publish may take:"
            f" at least the timeout_s of COUPON_QUEUE_URL is accepted, {publish_s:g}"
        )


def _backend_class(role: str, scheme: str, setting: str) -> type[Backend]:
    built_in = _built_in(role, scheme)
    point = built_in or _plugin(role, scheme, setting)
    try:
        return cast(type[Backend], point.load())
    except ModuleNotFoundError as error:
        remedy = _remedy(scheme) if built_in else f"{point.value} needs it; install it with that plugin"
        raise ConfigurationError(f"{setting}: the module {error.name!r} is missing; {remedy}") from error
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{setting}: {point.value} cannot be loaded ({error})") from error


def _remedy(scheme: str) -> str:
    """For a driver of ours that is missing."""
    return f"run: pip install 'coupon[{EXTRAS[scheme]}]'" if scheme in EXTRAS else "run: make install"


def _built_in(role: str, scheme: str) -> EntryPoint | None:
    path = BUILT_IN[role].get(scheme)
    return None if path is None else EntryPoint(scheme, path, "")


def _plugin(role: str, scheme: str, setting: str) -> EntryPoint:
    """The entry point of a third party's backend. Searching all installed packages takes milliseconds."""
    plugins = {point.name: point for point in entry_points(group=f"coupon.{role}")}
    if scheme not in plugins:
        schemes = ", ".join(f"{name}://" for name in (*BUILT_IN[role], *plugins))
        raise ConfigurationError(f"{setting}: unknown scheme {scheme!r}; known are {schemes}")
    return plugins[scheme]
