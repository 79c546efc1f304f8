"""A chunked body, joined as it is received. Once it is complete, gunicorn's parser reads it as one chunk.

Without this the parser waits for each chunk, and spends 8 µs on it, so a body of one-byte chunks costs seconds.
"""

import re

from gunicorn.http.body import CHUNK_EXT_RE

LINE_MAX = 256
TRAILERS_MAX = 4_096
RAW_MAX = 8
"""The most bytes of the chunks, as a multiple of the bytes of the body. One-byte chunks take six times as many."""
_PLAIN_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})" + CHUNK_EXT_RE.pattern + rb"\r\n")


class ChunkedBody:
    """The chunks of one body of at most ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        self.is_sound = True
        """Whether the chunks are valid and within the limit. Otherwise the beginning of the next request is unknown."""
        self._limit, self._raw_left = limit, RAW_MAX * limit

    def take(self, received: bytearray) -> bool:
        """Take the complete chunks out of ``received``; True when the body is complete, or can be refused.

        Then ``received`` begins with the body as one chunk. A body that is too long is cut a byte beyond the limit. One
        that is invalid is followed by the invalid bytes.
        """
        at = 0
        while (line := _PLAIN_LINE.match(received, at) or _LINE.match(received, at)) is not None:
            size = int(line[1], 16)
            if size == 0:
                return self._end(received, at, self._is_trailer_whole(received, line.end()))
            if len(self.body) + size > self._limit:
                self.body = bytearray(self._limit + 1)
                del received[:]
                return self._end(received, 0, False)
            end = line.end() + size
            if len(received) < end + 2:
                break
            if received[end : end + 2] != b"\r\n":
                return self._end(received, at, False)
            self.body += received[line.end() : end]
            at = end + 2
        wrong = line is None and (received.find(b"\n", at) >= 0 or len(received) - at > LINE_MAX)
        self._raw_left -= at
        if wrong or self._raw_left < 0:
            return self._end(received, at, False)
        del received[:at]
        return False

    def _is_trailer_whole(self, received: bytearray, at: int) -> bool | None:
        """None when a part of the trailer is missing."""
        if received.startswith(b"\r\n", at) or received.find(b"\r\n\r\n", at, at + TRAILERS_MAX) >= 0:
            return True
        return None if len(received) - at < TRAILERS_MAX else False

    def _end(self, received: bytearray, at: int, is_sound: bool | None) -> bool:
        """Put the joined body before the bytes of ``received`` that follow it."""
        if is_sound is None:
            del received[:at]
            return False
        received[:at] = b"%x\r\n%b\r\n" % (len(self.body), bytes(self.body)) if self.body else b""
        self.is_sound = is_sound
        return True
