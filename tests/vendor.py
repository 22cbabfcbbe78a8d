"""A model vendor on loopback: speaks Anthropic's streaming protocol, and fails as told.

What it answers is a `Script`, made by a callable from the request's body. Without a callable, markers
in the last user message make it, so that a test can steer it from another process:

    [[text:WORDS]]       say these words, one token a word
    [[words:N]]          say N words
    [[think:WORDS]]      think these words first, signed
    [[hide:DATA]]        then a redacted block
    [[call:NAME:{JSON}]] call a tool, unless the newest message is already a result
    [[delay:MS]]         wait before each token
    [[fail:STATUS]]      answer with that status
    [[drop:K]]           drop the connection after K tokens
    [[cut:K]]            end the stream properly, but after K tokens
    [[garbage:K]]        send what is not JSON after K tokens
    [[silence:K]]        say nothing more after K tokens, and keep the connection
    [[hold:K]]           say nothing more after K tokens until the vendor is told to go on
    [[empty]]            a proper stream without content

`GET /received` tells another process the bodies that came in, as they were read and as their very
text, and how many replies were broken off. Tokens are counted as `count_of` says, or as it fails.
"""

import argparse
import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

Json: TypeAlias = dict[str, Any]
BlockKind: TypeAlias = Literal["text", "thinking", "redacted", "tool_use"]
Fault: TypeAlias = Literal["drop", "cut", "garbage", "silence", "error"]

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
REPLIES = "/v1/messages"
POLL_S = 0.02
FAULTS: tuple[Fault, ...] = ("drop", "cut", "garbage", "silence", "error")
DELTAS: dict[BlockKind, tuple[str, str]] = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}
USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 5,
    "cache_creation_input_tokens": 3,
    "output_tokens": 1,
}
# A model in the vendor's list, as the list's newest version spells it.
MODEL: Json = {
    "type": "model",
    "id": "claude-haiku-4-5",
    "display_name": "Claude Haiku 4.5",
    "created_at": "2025-10-15T00:00:00Z",
    "lifecycle": "active",
    "max_tokens": 64_000,
}


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a reply, as the tokens it is sent in."""

    kind: BlockKind
    tokens: tuple[str, ...] = ()
    signature: str | None = None
    call_id: str = "toolu_1"
    name: str = ""

    def start(self) -> Json:
        match self.kind:
            case "text":
                return {"type": "text", "text": ""}
            case "thinking":
                return {"type": "thinking", "thinking": "", "signature": ""}
            case "redacted":
                return {"type": "redacted_thinking", "data": "".join(self.tokens)}
            case "tool_use":
                return {"type": "tool_use", "id": self.call_id, "name": self.name, "input": {}}

    def deltas(self) -> Iterator[Json]:
        if self.kind in DELTAS:
            delta_type, name = DELTAS[self.kind]
            yield from ({"type": delta_type, name: token} for token in self.tokens)
        if self.signature is not None:
            yield {"type": "signature_delta", "signature": self.signature}


@dataclass(frozen=True, slots=True)
class Script:
    """What the vendor does with one request."""

    blocks: tuple[Block, ...] = ()
    status: int = 200
    message: str = "told to fail"
    error_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_s: float = 0.0
    fault: Fault | None = None
    fault_after: int = 0
    hold_after: int | None = None
    stop_reason: str | None = None
    usage: Json = field(default_factory=lambda: dict(USAGE))

    @property
    def reason(self) -> str:
        if self.stop_reason is not None:
            return self.stop_reason
        return "tool_use" if any(block.kind == "tool_use" for block in self.blocks) else "end_turn"

    @property
    def error(self) -> Json:
        name = self.error_type or ERROR_TYPES.get(self.status, "api_error")
        return {"type": "error", "error": {"type": name, "message": self.message}}


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came in; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Json
    raw: bytes = b""


class GoneAway(Exception):
    """The client closed the connection before the reply was over."""


def words(text: str) -> tuple[str, ...]:
    """Split a text into words with what follows them; joined, they are the text."""
    return tuple(re.findall(r"\s*\S+\s*", text))


def script_of(body: Json) -> Script:
    """Read the markers in the last user message."""
    said = _said(body)
    if status := _number(said, "fail"):
        return Script(status=status)
    faults: list[Fault] = [name for name in FAULTS if _marker(said, name) is not None]
    fault = faults[0] if faults else None
    return Script(
        blocks=() if "[[empty]]" in said else tuple(_blocks(said, _is_result(body))),
        delay_s=(_number(said, "delay") or 0) / 1000,
        fault=fault,
        fault_after=(_number(said, fault) or 0) if fault else 0,
        hold_after=_number(said, "hold"),
    )


def _blocks(said: str, answered: bool) -> Iterator[Block]:
    if (thought := _marker(said, "think")) is not None:
        yield Block("thinking", words(thought), signature="signed-by-the-vendor")
    if (data := _marker(said, "hide")) is not None:
        yield Block("redacted", (data,))
    call = re.search(r"\[\[call:([\w-]+):(\{.*?\})\]\]", said, re.DOTALL)
    if call and not answered:
        yield Block("tool_use", words(call[2]), name=call[1])
        return
    count = _number(said, "words")
    text = _marker(said, "text")
    if text is None:
        text = "".join(f"word{number} " for number in range(20 if count is None else count))
    yield Block("text", words(text))


def _marker(said: str, name: str) -> str | None:
    found = re.search(rf"\[\[{name}:([^\]]*)\]\]", said)
    return found[1] if found else None


def _number(said: str, name: str) -> int | None:
    found = _marker(said, name)
    return int(found) if found else None


def _content(message: Json) -> list[Json]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _said(body: Json) -> str:
    for message in reversed(body["messages"]):
        texts = [part["text"] for part in _content(message) if part["type"] == "text"]
        if message["role"] == "user" and texts:
            return texts[-1]  # what was said before, unanswered, is in the same turn
    return ""


def _is_result(body: Json) -> bool:
    return any(part["type"] == "tool_result" for part in _content(body["messages"][-1]))


# So many tokens, a failure, or nothing at all.
Count: TypeAlias = int | Script | Literal["silence"]


def count_of(body: Json) -> Count:
    """Count a token for each character of a request's JSON."""
    return len(json.dumps(body))


class Vendor:
    """The vendor as an async context manager; `base_url` is where it listens."""

    def __init__(
        self,
        script: Callable[[Json], Script] = script_of,
        *,
        models: tuple[Json, ...] = (MODEL,),
        models_status: int = 200,
        counts: Callable[[Json], Count] = count_of,
        port: int = 0,
    ) -> None:
        self.requests: list[Received] = []
        self.aborted = 0
        self.connections = 0
        self._script = script
        self._models = models
        self._models_status = models_status
        self._counts = counts
        self._port = port
        self._changed = asyncio.Condition()
        self._going_on = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.sockets[0].getsockname()[1]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bodies(self) -> list[Json]:
        """The bodies of the requests for replies."""
        return [request.body for request in self.replied]

    @property
    def replied(self) -> list[Received]:
        """The requests for replies."""
        return [one for one in self.requests if one.path.partition("?")[0] == REPLIES]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, reached: Callable[[Self], bool], *, guard_s: float = 30.0) -> None:
        """Wait until something is true of the vendor, as of its counts after each change."""
        async with asyncio.timeout(guard_s), self._changed:
            await self._changed.wait_for(lambda: reached(self))

    def go_on(self) -> None:
        """Hold no reply any more, of those under way and of those to come."""
        self._going_on.set()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(Exchange(reader, writer))
        finally:
            self.connections -= 1
            self._tasks.discard(task)
            writer.close()
            await self._tell()

    async def _serve(self, exchange: "Exchange") -> None:
        while True:
            request = await exchange.read()
            self.requests.append(request)
            await self._tell()
            try:
                if not await self._answer(exchange, request):
                    return
            except (GoneAway, ConnectionError):
                self.aborted += 1
                return

    async def _answer(self, exchange: "Exchange", request: Received) -> bool:
        """Answer one request; False when the connection is not to be used again."""
        path = request.path.partition("?")[0]
        if path == "/v1/models":
            await exchange.answer(self._models_status, self._list(), {})
        elif path == "/received":
            await exchange.answer(200, self._received(), {})
        elif path == f"{REPLIES}/count_tokens":
            return await self._count(exchange, request.body)
        elif path == REPLIES and request.body.get("stream"):
            return await self._reply(exchange, self._script(request.body), request.body["model"])
        else:
            await exchange.answer(404, Script(status=404, message=f"no {path}").error, {})
        return True

    def _list(self) -> Json:
        names = [model["id"] for model in self._models] or [None]
        page = {"has_more": False, "first_id": names[0], "last_id": names[-1]}
        return {"data": self._models, **page}

    def _received(self) -> Json:
        texts = [request.raw.decode() for request in self.replied]
        return {"bodies": self.bodies, "texts": texts, "aborted": self.aborted}

    async def _count(self, exchange: "Exchange", body: Json) -> bool:
        counted = self._counts(body)
        match counted:
            case "silence":
                await exchange.gone()
                return False
            case Script():
                await exchange.answer(counted.status, counted.error, counted.headers)
            case int():
                await exchange.answer(200, {"input_tokens": counted}, {})
        return True

    async def _reply(self, exchange: "Exchange", script: Script, model: str) -> bool:
        if script.status != 200:
            await exchange.answer(script.status, script.error, script.headers)
            return True
        async with exchange.stream(script.headers):
            for doing in _events_of(script, model):
                match doing:
                    case "drop":
                        return False
                    case "hold":
                        await exchange.wait_for(self._going_on)
                    case Pause(delay_s=delay_s):
                        await exchange.wait(delay_s)
                    case bytes():
                        await exchange.send(doing)
            await exchange.end()
        return True


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is sent for so long; for ever by default."""

    delay_s: float | None = None


Doing: TypeAlias = bytes | Pause | Literal["drop", "hold"]


def _events_of(script: Script, model: str) -> Iterator[Doing]:
    """Yield frames to send, pauses to make, and where to drop the connection."""
    yield _frame("message_start", message=_opening(script, model))
    yield _frame("ping")
    tokens = 0
    for index, block in enumerate(script.blocks):
        yield _frame("content_block_start", index=index, content_block=block.start())
        for delta in block.deltas():
            if script.fault and tokens == script.fault_after:
                yield from _faulty(script)
                return
            if tokens == script.hold_after:
                yield "hold"
            if script.delay_s:
                yield Pause(script.delay_s)
            yield _frame("content_block_delta", index=index, delta=delta)
            tokens += 1
        yield _frame("content_block_stop", index=index)
    reason = {"stop_reason": script.reason, "stop_sequence": None}
    yield _frame("message_delta", delta=reason, usage={"output_tokens": tokens})
    yield _frame("message_stop")


def _faulty(script: Script) -> Iterator[Doing]:
    match script.fault:
        case "drop":
            yield "drop"
        case "garbage":
            yield b'event: content_block_delta\ndata: {"type": "content_block_delta", "ind\n\n'
        case "error":
            yield _frame("error", error=script.error["error"])
        case "silence":
            yield Pause()
        case "cut" | None:
            return


def _opening(script: Script, model: str) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": script.usage,
    }


def _frame(event: str, **data: Any) -> bytes:
    body = json.dumps({"type": event, **data}, ensure_ascii=False)
    return f"event: {event}\ndata: {body}\n\n".encode()


class Exchange:
    """One connection: reads requests, writes answers, and notices when the other side has left."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._left: asyncio.Task[bytes] | None = None

    async def read(self) -> Received:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.strip().split("\r\n")
        method, path, _ = line.split(" ", 2)
        pairs = (field.partition(":") for field in fields)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Received(method, path, headers, json.loads(body) if body else {}, body)

    async def answer(self, status: int, body: Json, headers: Mapping[str, str]) -> None:
        raw = json.dumps(body).encode()
        self._head(status, {"content-length": str(len(raw)), **headers})
        self._writer.write(raw)
        await self._writer.drain()

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Told", "request-id: req_1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def gone(self) -> None:
        """Wait until the client leaves."""
        await self._reader.read(1)

    @asynccontextmanager
    async def stream(self, headers: Mapping[str, str]) -> AsyncGenerator[None, None]:
        kind = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        self._head(200, {**kind, **headers})
        # While a reply is sent the client has nothing to say: whatever it sends is its farewell.
        self._left = asyncio.create_task(self._reader.read(1))
        try:
            yield
        finally:
            self._left.cancel()
            await asyncio.gather(self._left, return_exceptions=True)

    async def send(self, frame: bytes) -> None:
        await self.wait(0)
        self._writer.write(b"%x\r\n%s\r\n" % (len(frame), frame))
        await self._writer.drain()

    async def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def wait_for(self, event: asyncio.Event) -> None:
        """Wait for something to happen, but not for a client that has left."""
        while not event.is_set():
            await self.wait(POLL_S)

    async def wait(self, delay_s: float | None) -> None:
        """Wait, for ever if need be, but not for a client that has left."""
        assert self._left is not None
        await asyncio.wait({self._left}, timeout=delay_s)
        if self._left.done():
            raise GoneAway


async def _main(port: int) -> None:
    async with Vendor(port=port) as vendor:
        print(vendor.port, flush=True)  # noqa: T201 - its parent reads the port
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A scripted model vendor on loopback.")
    parser.add_argument("--port", type=int, default=0)
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args().port))
