"""Search in Elasticsearch.

``<index>`` is an alias of the present generation, ``<index>-next`` of the one that a rebuild is filling. The indices
themselves have other names. Writers write to an alias, and during a rebuild to both.

No document that is indexed during a rebuild is lost:

- A process looks for the next generation at most ``LOOK_S`` before it writes. A rebuild waits longer than that before
  it reads the store. So a coupon whose writer did not see the next generation was saved before that read.
- Both documents travel in one request, which sees the aliases of one moment. They are as they were, or both of the same
  index, or the second one is deleted.

A rebuild ends in two steps. In the first one, which is atomic, ``<index>`` moves to the next generation, and the one
that it leaves becomes ``<index>-past``. The second one follows when all nodes know of that. It deletes the past
generation, which searches may use until then, and ``<index>-next``, to which processes may write until then.
"""

import re
import secrets
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self
from urllib.parse import quote, urlencode

from elastic_transport import NodeConfig, TransportError
from elasticsearch import ApiError, Elasticsearch, NotFoundError

from backends.search import elasticsearch_bulk as bulk
from backends.search.elasticsearch_node import SocketNode
from backends.tls import OPTIONS as TLS
from backends.tls import trust
from coupon.domain.errors import BackendError, BackendRejected, BackendUnavailable, ConfigurationError
from coupon.domain.model import Coupon
from coupon.domain.serialization import Document, completed, dump
from coupon.ports.search import Counts, Query, Rebuild, Search
from coupon.ports.url import Url

JSON = "application/vnd.elasticsearch+json; compatible-with=8"
SEARCH_OPTIONS: dict[str, Any] = {"allow_partial_search_results": "false", "filter_path": "hits.hits._source"}
STATES: dict[str, Any] = {
    "free": {"bool": {"filter": [{"term": {"used": False}}, {"term": {"issued": False}}]}},
    "issued": {"bool": {"filter": [{"term": {"used": False}}, {"term": {"issued": True}}]}},
    "used": {"term": {"used": True}},
}
"""The query of each of ``Counts``."""
LOOK_S = 1.0
"""How long a process relies on its last look for a rebuild."""
BULK_MAX = 1_000
"""The most documents of a request: each request has the whole timeout for itself."""
API_KEY = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
OVERTAKEN = "another rebuild was begun, which discarded this one"
PATIENCE_S = 60.0
"""The timeout of the last refresh of a rebuild, which may have taken hours."""


class ElasticsearchSearch(Search):
    """Sends requests to the first node that answers. Thread-safe."""

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        index: str = "coupon",
        timeout_s: float = 2.0,
        shards: int = 1,
        replicas: int = 0,
        tls: ssl.SSLContext | None = None,
        authorization: str | None = None,
    ) -> None:
        self._present, self._next, self._past = index, f"{index}-next", f"{index}-past"
        self._shards, self._replicas, self._timeout_s = shards, replicas, timeout_s
        scheme = "http" if tls is None else "https"
        self._retries = len(addresses)
        self._search_target = f"/{quote(index)}/_search?{urlencode(SEARCH_OPTIONS)}"
        self._headers = {"accept": JSON, "content-type": JSON}
        if authorization is not None:
            self._headers["authorization"] = authorization
        self._client = Elasticsearch(
            [
                NodeConfig(scheme, host.strip("[]"), port, request_timeout=timeout_s, ssl_context=tls)
                for host, port in addresses
            ],
            node_class=SocketNode,
            headers={} if authorization is None else {"authorization": authorization},
            max_retries=self._retries,  # for refused and broken connections: after a timeout there is no second try
            retry_on_status=(),
            max_dead_node_backoff=5.0,
            meta_header=False,
        )
        self._seen = (float("-inf"), False)
        self._closed = False

    @classmethod
    def from_url(cls, url: Url) -> Self:
        options = url.options(index="coupon", timeout_s=2.0, shards=1, replicas=0, **TLS)
        tls = trust(**{name: options.pop(name) for name in TLS})
        return cls(url.addresses(9200), tls=tls, authorization=_authorization(url), **options)

    def ping(self) -> None:
        with self._errors():
            client = self._client.options(request_timeout=min(1.0, self._timeout_s))
            client.search(index=self._present, size=0, allow_partial_search_results=False, filter_path="took")

    def close(self) -> None:
        self._closed = True
        self._client.close()

    def create(self) -> None:
        with self._errors():
            if self._index_behind(self._present) is not None:
                self._add_fields()
                return
            try:
                self._make(self._present)
            except ApiError:  # of several that make it at once one does: an alias has one index to write to
                if self._index_behind(self._present) is None:
                    raise

    def index_many(self, coupons: Sequence[Coupon]) -> None:
        with self._errors():
            self.write(coupons, [self._present, self._next] if self._is_rebuilding() else [self._present])

    def write(self, coupons: Sequence[Coupon], aliases: Sequence[str]) -> None:
        for first in range(0, len(coupons), BULK_MAX):
            some = coupons[first : first + BULK_MAX]
            answer = self._client.bulk(
                operations=bulk.operations(some, aliases), require_alias=True, filter_path=bulk.FILTER
            )
            if _object(answer.body).get("errors") is not False:
                try:
                    bulk.check(some, [item["index"] for item in answer["items"]])
                except (AttributeError, LookupError, TypeError) as error:
                    raise _no_answer(answer.body) from error

    def write_next(self, coupons: Sequence[Coupon], generation: str) -> None:
        """Into the next generation, if it is still that one. Another rebuild that begins just then gets documents that
        are no newer than its own."""
        if self._index_behind(self._next) != generation:
            raise BackendRejected(OVERTAKEN)
        self.write(coupons, [self._next])

    def find(self, query: Query, limit: int, after: str = "") -> list[Document]:
        terms: dict[str, str | bool | None] = {"userId": query.user_id, "expireAt": query.unused_until}
        if query.unused_until is not None:
            terms["used"] = False
        filters = [{"term": {name: value}} for name, value in terms.items() if value is not None]
        body: dict[str, Any] = {
            "query": {"bool": {"filter": filters}},
            "sort": ["couponCode"],
            "search_after": [after],
            "size": limit,
            "track_total_hits": False,
        }
        with self._errors():
            found = self._search(body)
        hits = found.get("hits", {"hits": []})
        try:
            return [completed(hit.get("_source")) for hit in hits["hits"]]
        except (AttributeError, LookupError, TypeError) as error:
            raise _no_answer(hits) from error

    def count(self) -> Counts:
        with self._errors():
            answer = self._client.search(
                index=self._present,
                size=0,
                track_total_hits=False,
                aggregations={"states": {"filters": {"filters": STATES}}},
                allow_partial_search_results=False,
                filter_path="aggregations.states.buckets.*.doc_count",
            )
        try:
            buckets = _object(answer.body)["aggregations"]["states"]["buckets"]
            return Counts(**{state: int(buckets[state]["doc_count"]) for state in STATES})
        except (LookupError, TypeError, ValueError) as error:
            raise _no_answer(answer.body) from error

    def _search(self, body: dict[str, Any]) -> dict[str, Any]:
        """The response to a search, through the client's transport: its own ``search`` takes 1.6 times as much CPU.

        The client asks again when a rebuild may have ended and deleted the index meanwhile. It also asks again when the
        response is not Elasticsearch's, and raises its own error."""
        meta, found = self._client.transport.perform_request(
            "POST",
            self._search_target,
            body=dump(body),
            headers=self._headers,
            max_retries=self._retries,
            retry_on_status=(),
        )
        if meta.status in (404, 503) or meta.headers.get("x-elastic-product") != "Elasticsearch":
            return _object(self._client.search(index=self._present, **SEARCH_OPTIONS, **body).body)
        if meta.status != 200:
            raise ApiError(_error_type(found), meta, found)
        return _object(found)

    @contextmanager
    def rebuild(self) -> Iterator[Rebuild]:
        with self.errors_of_rebuild():
            leftover = self._index_behind(self._next)
            if leftover is not None:
                self._clear(leftover)
            generation = self._make(self._next)
        try:
            time.sleep(LOOK_S * 1.2)
            yield _ElasticsearchRebuild(self, generation)
            with self.errors_of_rebuild():
                self._promote(generation)
        except BaseException:
            with suppress(BackendError), self._errors():
                self._clear(generation)
            raise

    def _promote(self, generation: str) -> None:
        self._client.options(request_timeout=PATIENCE_S).indices.refresh(index=generation)
        replaced = self._index_behind(self._present)
        steps = [self._add(generation)]
        if replaced is not None:
            steps += [self._remove(replaced), {"add": {"index": replaced, "alias": self._past}}]
        self._change(steps)
        self._clear(generation)

    def _clear(self, generation: str) -> None:
        """Delete the rest of a rebuild: the generation, unless it became the present one, and the past one."""
        past, present = self._index_behind(self._past), self._index_behind(self._present)
        if past is not None:
            self._client.options(ignore_status=404).indices.delete(index=past)
        if generation == present:
            self._client.options(ignore_status=404).indices.delete_alias(index=generation, name=self._next)
        elif present is None:
            self._change([{"remove_index": {"index": generation}}])
        else:  # refused when there is another present one by now: it may be this very generation
            self._change([self._remove(present), self._add(present), {"remove_index": {"index": generation}}])

    def _add(self, index: str) -> dict[str, Any]:
        return {"add": {"index": index, "alias": self._present, "is_write_index": True}}

    def _remove(self, index: str) -> dict[str, Any]:
        return {"remove": {"index": index, "alias": self._present, "must_exist": True}}

    def _change(self, steps: list[dict[str, Any]]) -> None:
        """Take all steps atomically, or none when an index or alias does not exist any more."""
        _check_all_know(self._client.indices.update_aliases(actions=steps)["acknowledged"])

    def _make(self, alias: str) -> str:
        """Make an index; returns its name."""
        from backends.search.elasticsearch_index import make_index  # the API does without dsl

        name = f"{self._present}-{secrets.token_hex(8)}"
        _check_all_know(make_index(self._client, name, alias, self._shards, self._replicas))
        return name

    def _add_fields(self) -> None:
        from backends.search.elasticsearch_index import add_fields

        _check_all_know(add_fields(self._client, self._present))

    def _index_behind(self, alias: str) -> str | None:
        try:
            return str(next(iter(self._client.indices.get_alias(name=alias).body)))
        except NotFoundError:
            return None

    def _is_rebuilding(self) -> bool:
        now = time.monotonic()
        if now - self._seen[0] >= LOOK_S:
            self._seen = (now, bool(self._client.indices.exists_alias(name=self._next)))
        return self._seen[1]

    @contextmanager
    def errors_of_rebuild(self) -> Iterator[None]:
        """As ``_errors``, for a rebuild. When its generation is missing, another rebuild has deleted it."""
        with self._errors():
            try:
                yield
            except (NotFoundError, bulk.NoIndex) as error:
                raise BackendRejected(OVERTAKEN) from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        if self._closed:
            raise BackendUnavailable("the search was closed")
        try:
            yield
        except TransportError as error:
            raise BackendUnavailable(f"Elasticsearch does not answer: {error.message}") from error
        except (NotFoundError, bulk.NoIndex) as error:
            raise BackendUnavailable(f"there is no index {self._present!r}: run `coupon init`") from error
        except ApiError as error:
            kind = BackendUnavailable if bulk.may_pass(error.status_code, error.error) else BackendRejected
            raise kind(f"Elasticsearch answers {error.status_code}: {error.body}") from error


class _ElasticsearchRebuild(Rebuild):
    def __init__(self, search: ElasticsearchSearch, generation: str) -> None:
        self._search, self._generation = search, generation

    def add_many(self, coupons: Sequence[Coupon]) -> None:
        with self._search.errors_of_rebuild():
            self._search.write_next(coupons, self._generation)


def _authorization(url: Url) -> str | None:
    """The header with user and password, or with a password without a user: an API key."""
    if url.user:
        return f"Basic {b64encode(f'{url.user}:{url.password}'.encode()).decode()}"
    if not url.password:
        return None
    if API_KEY.fullmatch(url.password) is None:
        raise ConfigurationError(
            f"{url} has a password without a user, which is no API key as Elasticsearch encodes it"
        )
    return f"ApiKey {url.password}"


def _object(body: Any) -> dict[str, Any]:
    """The body of a response. Raises BackendUnavailable for one that is not Elasticsearch's, but a proxy's."""
    if not isinstance(body, dict):
        raise _no_answer(body)
    return body


def _error_type(body: Any) -> str:
    """As the client tells it of a response that is an error."""
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("type", body) if isinstance(error, dict) else error or body)


def _no_answer(body: Any) -> BackendUnavailable:
    return BackendUnavailable(f"Elasticsearch does not answer, but somebody: {body!r:.200}")


def _check_all_know(acknowledged: bool) -> None:
    """Several nodes must not disagree about the aliases while somebody writes."""
    if not acknowledged:
        raise BackendUnavailable("not all nodes of Elasticsearch have heard of a change of the aliases")
