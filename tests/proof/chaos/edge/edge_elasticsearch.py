"""What Elasticsearch answers when it is pressed, in place of what came back from an exchange of a ``SocketNode``."""

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import edge_dice as dice
from elastic_transport import ApiResponseMeta, ConnectionError, HttpHeaders  # noqa: A004 - the client's own
from elastic_transport._node import NodeApiResponse

Ask = Callable[[bytes | None], Any]
"""The exchange, with this body."""
HEADERS = {
    "x-elastic-product": "Elasticsearch",
    "content-type": "application/vnd.elasticsearch+json;compatible-with=8",
}
BUSY = {
    "type": "es_rejected_execution_exception",
    "reason": "rejected execution of primary operation [coordinating_and_primary_bytes=0, max=1]",
}
RED = {
    "type": "cluster_block_exception",
    "reason": "blocked by: [SERVICE_UNAVAILABLE/2/no master];",
}


def wrap(elasticsearch_node: ModuleType) -> None:
    pass_on = elasticsearch_node.SocketNode.perform_request

    def perform_request(
        node: Any, method: str, target: str, body: bytes | None = None, *rest: Any, **options: Any
    ) -> Any:
        def ask(body: bytes | None) -> Any:
            return pass_on(node, method, target, body, *rest, **options)

        if not dice.falls():
            return ask(body)
        kinds = [kind for kind in FAULTS if kind != "elasticsearch-bulk-items" or _is_bulk(target)]
        return FAULTS[dice.choose(kinds)](node, method, body, ask)

    elasticsearch_node.SocketNode.perform_request = perform_request


def _busy(node: Any, method: str, body: bytes | None, ask: Ask) -> Any:
    return _refused(node, method, 429, BUSY)


def _unavailable(node: Any, method: str, body: bytes | None, ask: Ask) -> Any:
    return _refused(node, method, 503, RED)


def _lost_reply(node: Any, method: str, body: bytes | None, ask: Ask) -> Any:
    ask(body)
    error = ConnectionResetError("the edge")
    raise ConnectionError(f"{node.base_url}: {error}", errors=(error,)) from error


def _bulk_items(node: Any, method: str, body: bytes | None, ask: Ask) -> Any:
    """Some of the documents, or all, are not indexed, the others are."""
    assert body is not None
    lines = body.splitlines(keepends=True)
    documents = [lines[place] + lines[place + 1] for place in range(0, len(lines), 2)]  # all are to be indexed
    busy = dice.some(len(documents), len(documents))
    kept = b"".join(document for place, document in enumerate(documents) if place not in busy)
    answer = ask(kept) if kept else _reply(node, 200, {"items": []})
    if answer.meta.status != 200:
        return answer
    done = iter(json.loads(answer.body)["items"])
    refused = {"index": {"status": 429, "error": BUSY}}
    items = [refused if place in busy else next(done) for place in range(len(documents))]
    return _reply(node, 200, {"errors": True, "items": items})


FAULTS: dict[str, Callable[[Any, str, bytes | None, Ask], Any]] = {
    "elasticsearch-429": _busy,
    "elasticsearch-503": _unavailable,
    "elasticsearch-lost-reply": _lost_reply,
    "elasticsearch-bulk-items": _bulk_items,
}


def _is_bulk(target: str) -> bool:
    return target.partition("?")[0].endswith("/_bulk")


def _refused(node: Any, method: str, status: int, error: dict[str, Any]) -> Any:
    body = {"error": {"root_cause": [error], **error}, "status": status}
    return _reply(node, status, None if method == "HEAD" else body)


def _reply(node: Any, status: int, body: dict[str, Any] | None) -> Any:
    meta = ApiResponseMeta(status, "1.1", HttpHeaders(HEADERS), 0.0, node.config)
    return NodeApiResponse(meta, b"" if body is None else json.dumps(body).encode())
