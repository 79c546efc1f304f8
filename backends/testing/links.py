"""TCP proxies on loopback, between clients and a server, that do to bytes what networks do to them."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self

from backends.testing.link_connection import Connection, Counts, Weather


class Link:
    """A way to a server. Faults add up until ``heal``. From any thread; each method has its effect when it returns."""

    def __init__(self, name: str, upstream: tuple[str, int], loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.port = 0
        """Where clients connect, on 127.0.0.1."""
        self.counts = Counts()
        self._upstream, self._loop = upstream, loop
        self._weather = Weather()
        self._connections: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """``host:port`` where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def present(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def delay(self, ms: float) -> None:
        """Everything takes so much longer, each way."""
        self._change(delay_s=ms / 1000)

    def black_hole(self) -> None:
        """Connections are accepted and kept, and nothing arrives."""
        self._change(swallows=True)

    def lose_replies(self) -> None:
        """Requests arrive and are applied; when the server begins to answer, the client's connection is reset."""
        self._change(loses_replies=True)

    def lose_reply(self, spared: int = 0) -> None:
        """As ``lose_replies``, of a single part of a reply: so many parts arrive before it, and all arrive after it."""
        self._change(spared=spared)

    def slice(self, size: int, ms: float) -> None:
        """No more than ``size`` bytes arrive at a time, ``ms`` apart."""
        self._change(slice_max=size, apart_s=ms / 1000)

    def reset(self) -> None:
        """A RST to both ends of all present connections; new ones are well."""
        self._in_the_loop(self._reset)

    def refuse(self) -> None:
        """Present connections are reset, and new ones as soon as they are made."""
        self._change(refuses=True)
        self.reset()

    def heal(self) -> None:
        """Make the link well again. What was held arrives now, also from clients that have given up meanwhile.

        So requests come late to the server, as from a TCP that went on trying.
        """
        self._in_the_loop(self._heal)

    async def listen(self, port: int) -> None:
        self._server = await self._loop.create_server(self._accept, "127.0.0.1", port, backlog=1_000)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for connecting in self._connecting:
            connecting.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        self._reset()

    def _accept(self) -> asyncio.Protocol:
        connection = Connection(self._weather, self.counts, self._connections.discard)
        self._connections.add(connection)
        self.counts.connections += 1
        connecting = self._loop.create_task(self._connect(connection))
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)
        return connection.client

    async def _connect(self, connection: Connection) -> None:
        if self._weather.refuses:
            connection.reset()
            return
        try:
            await self._loop.create_connection(lambda: connection.server, *self._upstream)
        except OSError as error:
            connection.server.connection_lost(error)

    def _reset(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    def _heal(self) -> None:
        vars(self._weather).update(vars(Weather()))
        for connection in list(self._connections):
            connection.hurry()

    def _change(self, **weather: Any) -> None:
        def change() -> None:
            vars(self._weather).update(weather)
            for connection in list(self._connections):
                connection.pump()

        self._in_the_loop(change)

    def _in_the_loop(self, do: Callable[[], None]) -> None:
        done: Future[None] = Future()

        def run() -> None:
            try:
                do()
                done.set_result(None)
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        done.result(10)


class Links:
    """``with Links() as links: link = links.open("worker-dynamodb", 8000)``. All of them in one thread of its own."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._links: list[Link] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self, name: str, upstream: int, port: int = 0, host: str = "127.0.0.1") -> Link:
        """To the server at ``host:upstream``; clients connect to ``port``, or, if it is 0, to any free one."""
        link = Link(name, (host, upstream), self._loop)
        asyncio.run_coroutine_threadsafe(link.listen(port), self._loop).result()
        self._links.append(link)
        return link

    async def _close(self) -> None:
        for link in self._links:
            await link.close()
        await asyncio.sleep(0.01)  # the sockets are closed in the loop's next rounds
