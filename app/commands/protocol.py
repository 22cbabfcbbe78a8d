"""The answer to what is no HTTP request, or has a URL too long to be one."""

from typing import Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# httptools counts the bytes of a URL in 16 bits.
URL_BYTES_MAX: Final = 65_535


class Protocol(HttpToolsProtocol):
    """Speaks HTTP, and says in the contract's shape what it could not read."""

    def send_400_response(self, msg: str) -> None:
        """Tell that the request was none, and hang up."""
        detail = f"{msg} A URL has at most {URL_BYTES_MAX} bytes, percent signs and all."
        body = orjson.dumps({"detail": detail})
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
