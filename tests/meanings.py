"""An embedding model on loopback: speaks OpenAI's protocol, knows a few synonyms, fails as told.

Texts with words of the same meaning get vectors that point the same way.
"""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Self

DIMENSIONS = 64
SYNONYMS = {
    "automobile": "car",
    "vehicle": "car",
    "physician": "doctor",
    "feline": "cat",
    "kitten": "cat",
}


def vector_of(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Add up a direction for each word, the same for words that mean the same."""
    total = [0.001] * dimensions
    for word in text.lower().replace(".", " ").split():
        digest = hashlib.sha512(SYNONYMS.get(word, word).encode()).digest()
        for place in range(dimensions):
            total[place] += digest[place % len(digest)] / 127.5 - 1
    return total


class Meanings:
    """The server, for as long as its context is open.

    `status` is what it answers from now on, `refused` a word in texts that it does not take.
    """

    def __init__(self) -> None:
        self.status = 200
        self.refused: str | None = None
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.base_url = ""

    @property
    def texts(self) -> list[str]:
        """All texts that came in, in order."""
        return [text for request in self.requests for text in request["input"]]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await self._head(reader):
                body = await reader.readexactly(int(head["content-length"]))
                self.keys.append(head.get("authorization", ""))
                self.requests.append(json.loads(body))
                status, answer = self._answer(self.requests[-1])
                sent = json.dumps(answer).encode()
                writer.write(
                    f"HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\n"
                    f"content-length: {len(sent)}\r\n\r\n".encode()
                    + sent
                )
                await writer.drain()
        finally:
            writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> dict[str, str]:
        try:
            raw = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return {}
        lines = (line.partition(":") for line in raw.split("\r\n")[1:] if line)
        return {name.lower(): value.strip() for name, _, value in lines}

    def _answer(self, request: dict[str, Any]) -> tuple[int, Any]:
        texts: Sequence[str] = request["input"]
        refused = self.refused is not None and any(self.refused in one for one in texts)
        status = 400 if refused else self.status
        if status != 200:
            return status, {"error": {"message": f"told to fail: {texts}"}}
        dimensions = request.get("dimensions", DIMENSIONS)
        data = [
            {"object": "embedding", "index": index, "embedding": vector_of(text, dimensions)}
            for index, text in enumerate(texts)
        ]
        # In another order than asked for, as the index says which is which.
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return 200, {"object": "list", "data": data[::-1], "model": "m", "usage": usage}
