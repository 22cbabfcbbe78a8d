"""A connection that breaks off where it is told to, and keeps the very bytes that came over it."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import httpx

FRAME_END = b"\n\n"


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a stream breaks off: after so many whole frames, and some bytes of the next."""

    frames: int
    into: int

    def place(self, received: bytes | bytearray) -> int | None:
        """Tell where it falls in what has been received, None if it is yet to come."""
        end = 0
        for _ in range(self.frames):
            found = received.find(FRAME_END, end)
            if found < 0:
                return None
            end = found + len(FRAME_END)
        place = end + self.into
        return place if place <= len(received) else None


class Wire(httpx.BaseTransport):
    """The transport below a client. `received` is the body of the newest response so far."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self._cut: Cut | None = None
        self.received = bytearray()

    def cut_next(self, cut: Cut | None) -> None:
        """Have the next response break off at `cut`."""
        self._cut = cut

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its response's body goes through our hands."""
        response = self._inner.handle_request(request)
        cut, self._cut = self._cut, None
        self.received = bytearray()
        assert isinstance(response.stream, httpx.SyncByteStream)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Body(response.stream, cut, self.received),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()


class _Body(httpx.SyncByteStream):
    """A response's body, up to the cut if there is one."""

    def __init__(self, inner: httpx.SyncByteStream, cut: Cut | None, received: bytearray) -> None:
        self._inner = inner
        self._cut = cut
        self._received = received

    def __iter__(self) -> Iterator[bytes]:
        if self._cut is not None and self._cut.place(b"") is not None:
            self._break_off()
        for piece in self._inner:
            yield from self._upto_cut(piece)

    def _upto_cut(self, piece: bytes) -> Generator[bytes]:
        before = len(self._received)
        self._received += piece
        place = None if self._cut is None else self._cut.place(self._received)
        if place is None:
            yield piece
            return
        del self._received[place:]
        yield piece[: place - before]
        self._break_off()

    def _break_off(self) -> None:
        # The socket is closed before the reader is told, as the server would see it, too.
        self._inner.close()
        raise httpx.ReadError("the connection was cut")

    def close(self) -> None:
        """Close the connection, or give it back."""
        self._inner.close()
