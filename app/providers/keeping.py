"""A transport that keeps the request it is given and sends nothing: to see what would be sent."""

from typing import Final

import httpx2

from app.providers import Wire

# Those that say how a body is meant, of whatever vendor.
HEADERS: Final = ("anthropic-beta", "anthropic-version", "content-type")


class Keeping(httpx2.AsyncBaseTransport):
    """The end of the line: a request that gets here goes no further. `wire` is the last one."""

    def __init__(self) -> None:
        self.wire: Wire | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Keep a request, and fail as if nobody were there."""
        body = await request.aread()
        path = request.url.raw_path.decode("ascii")
        headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
        self.wire = Wire(request.method, path, body.decode(), headers)
        raise httpx2.ConnectError("kept, not sent", request=request)
