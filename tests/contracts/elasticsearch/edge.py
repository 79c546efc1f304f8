"""What stands between the client and the wire, and what it answers there."""

import json

from elastic_transport import HttpHeaders
from elastic_transport._node import NodeApiResponse

from backends.search.elasticsearch_node import SocketNode


class Edge:
    """Stands between the client and the wire: whatever is put there sees each request and what would be answered."""

    def __init__(self, patch):
        self._patch, self._perform = patch, SocketNode.perform_request

    def put(self, path, change):
        """``change(ask)`` answers requests to that path; ``ask()`` is what the server answers."""

        def perform(node, method, target, **rest):
            def ask():
                return self.pass_on(node, method, target, **rest)

            return change(ask) if target.partition("?")[0] == path else ask()

        self.instead(perform)

    def instead(self, perform):
        """``perform(node, method, target, …)`` in the place of all that goes to a server."""
        self._patch.setattr(SocketNode, "perform_request", perform)

    def pass_on(self, node, method, target, **rest):
        """As without an edge."""
        return self._perform(node, method, target, **rest)

    def clear(self):
        self.instead(self._perform)


def answers(status, body, product="Elasticsearch"):
    """What a server, or whatever stands before it, says."""

    def change(ask):
        kind = "application/json" if isinstance(body, dict) else "text/html"
        meta = ask().meta
        object.__setattr__(meta, "status", status)
        object.__setattr__(meta, "headers", HttpHeaders({"content-type": kind, "x-elastic-product": product}))
        return NodeApiResponse(meta, json.dumps(body).encode() if isinstance(body, dict) else body.encode())

    return change
