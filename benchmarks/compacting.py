"""A long conversation that goes on and on in a window too small for it, in a server of its own.

It comes from LoCoMo, through the import, a few messages at a time; whenever its window is as full as
a run would have to find it to make room, it is compacted, over HTTP and by the demo model, which only
picks sentences. So the same conversation is compacted in the same way every time.
"""

import hashlib
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import httpx2
from starlette.applications import Starlette

from app.history.importing import Importer
from app.history.lines import Batch, Told, told_in
from app.settings import load
from app.web import routes
from app.web.errors import EXCEPTION_HANDLERS
from app.web.services import Services
from app.wiring import log_of, services_of
from benchmarks.locomo_jsonl import Turn, lines_of, turns_of
from benchmarks.searching import Asked, conversation_in
from domain.compaction import CompactionMode
from domain.run import crowded_above
from projections.sizes import tokens_of
from projections.tokens import estimate

# An append of the import; what is said between two looks at the window.
MESSAGES_AT_ONCE: Final = 4
EVENTS_A_PAGE: Final = 1000
CANNOT: Final = 400
OK: Final = 200


@dataclass(frozen=True, slots=True)
class Conversation:
    """One of LoCoMo's: its turns, what is asked about them, and the same as the import reads it."""

    name: str
    turns: tuple[Turn, ...]
    asked: tuple[Asked, ...]
    told: Told

    @property
    def tokens(self) -> int:
        """How large it is as a whole, estimated."""
        return sum(estimate(turn.words) for turn in self.turns)


def conversation_at(path: Path) -> Conversation:
    """Read a file of LoCoMo's."""
    read = json.loads(path.read_text(encoding="utf-8"))
    conversation = read.get("conversation", read)
    turns = tuple(turns_of(conversation))
    lines = "".join(f"{line}\n" for line in lines_of(path.stem, conversation, list(turns)))
    (told,) = told_in(BytesIO(lines.encode()))
    assert isinstance(told, Told), told
    return Conversation(path.stem, turns, conversation_in(path).asked, told)


# --- a server ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Served:
    """A server in this process without a worker: nothing here is said by a model but summaries."""

    services: Services
    http: httpx2.AsyncClient

    async def get(self, path: str, **params: Any) -> Any:
        """Get JSON, which must be there."""
        answer = await self.http.get(path, params=params)
        assert answer.status_code == OK, f"{path}: {answer.text}"
        return answer.json()

    async def events(self, stream: str) -> list[dict[str, Any]]:
        """Read a conversation's facts as they are stored."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["offset"] if found else 0
            path = f"/v1/conversations/{stream}/events"
            page = await self.get(path, after=after, limit=EVENTS_A_PAGE)
            found += page["events"]
            if not page["events"]:
                return found


@asynccontextmanager
async def serving(url: str) -> AsyncGenerator[Served]:
    """Serve a database, without a socket."""
    settings = load(database_url=url)
    async with log_of(settings) as log:
        services = services_of(settings, log)
        app = Starlette(
            routes=routes(lambda: services), exception_handlers=dict(EXCEPTION_HANDLERS)
        )
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://here") as http:
            yield Served(services, http)
        services.tail.close()
        await services.catalogue.close()


# --- playing ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Played:
    """A conversation that has been said to its end; `failed` compactions came to nothing."""

    stream: str
    failed: int


async def play(
    served: Served, conversation: Conversation, mode: CompactionMode, window_tokens: int
) -> Played:
    """Say everything, and compact in a mode whenever a window of so many tokens is full."""
    told, failed, stream = conversation.told, 0, ""
    header = told.header.model_copy(update={"context_window_limit": window_tokens})
    batches: list[Batch] = []
    for batch in _batches_of(told):
        batches.append(batch)
        grown = replace(told, header=header, batches=batches)
        stream = await _imported(served, grown)
        window = await served.services.windows.newest(stream)
        if tokens_of(window).total > crowded_above(window_tokens):
            failed += not await _compacted(served, stream, mode)
    return Played(stream, failed)


async def _imported(served: Served, told: Told) -> str:
    """Take in what has come to a conversation since the last time."""
    importer = Importer(served.services.log, served.services.execute)
    return (await importer.take_in(told, _unseen)).conversation_id


def _unseen(_size: int) -> None:
    """Show no progress."""


async def _compacted(served: Served, stream: str, mode: CompactionMode) -> bool:
    path = f"/v1/conversations/{stream}/compact"
    answer = await served.http.post(path, json={"compaction_settings": {"mode": mode}})
    assert answer.status_code in (OK, CANNOT), answer.text
    return answer.status_code == OK


def _batches_of(told: Told) -> Iterator[Batch]:
    """Cut what is said into small appends."""
    said = [one for batch in told.batches for one in batch.said]
    for first in range(0, len(said), MESSAGES_AT_ONCE):
        some = tuple(said[first : first + MESSAGES_AT_ONCE])
        yield Batch(some, len(some), 0, _digest_of(some))


def _digest_of(said: Sequence[object]) -> str:
    return hashlib.sha256(repr(said).encode()).hexdigest()
