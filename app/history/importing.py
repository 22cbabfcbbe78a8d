"""Writes conversations of a file into the log, through `execute`; what is there already stays.

A conversation's id follows from its header's, or from its content, and the id and key of each batch
from that. So whoever imports a file again, or again after a crash, writes only what is missing.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from app.execute import Execute
from app.history.lines import Batch, Told
from app.log import Log, utc_now
from app.memory.blocks import compile_system
from app.model_settings import checked
from domain.agent import AgentSettings, CreateAgent
from domain.block import BlockSettings, CreateBlock
from domain.conversation import (
    Conversation,
    ConversationSettings,
    Counts,
    ImportMessages,
    StartConversation,
)
from domain.errors import Busy, KeyReused, Refused, Waiting
from domain.streams import AGENT, BLOCK, CONVERSATION, RUN, derived_id, is_id
from projections.interchange import AgentDescribed, BlockDescribed, Header
from projections.system import DEFAULT_SYSTEM

BY: Final = "import"
_KEYS: Final = (
    "SELECT key, body_hash FROM idempotency_keys WHERE conversation_id = ? "
    "AND key >= 'import:' AND key < 'import;'"
)
_RUNS: Final = "SELECT run_id FROM runs WHERE conversation_id = ? LIMIT 1"
OTHERS: Final = (
    "it was imported before with other messages; leave `id` out to have it a second time"
)


class NotImported(Exception):
    """A conversation that cannot be taken in as it is; the message names the field."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A conversation that is in the log up to offset `last`; `fresh` of its messages are new."""

    conversation_id: str
    last: int
    messages: int
    fresh: int
    unreturned: int


@dataclass(slots=True)
class Importer:
    """Takes in the conversations of one file, for one agent or for those that it names."""

    log: Log
    execute: Execute
    agent_id: str | None = None
    _seen: Counter[str] = field(default_factory=Counter[str])

    async def take_in(self, told: Told, progress: Callable[[int], None]) -> Imported:
        """Write a conversation, or what is missing of it.

        Raises NotImported with nothing written, or if somebody else is at it; StoreUnavailable.
        """
        stream = self._stream(told)
        state: Conversation = await self.execute.conversation(stream)
        known = await self._known(stream, state, told)
        agent_id = await self._agent(told.header)
        if state.agent_id is None:
            await self._start(stream, agent_id, told.header)
        elif state.agent_id != agent_id:
            raise NotImported(f"id: {stream} is a conversation of {state.agent_id}")
        fresh = 0
        for number, batch in enumerate(told.batches):
            if _key(number) not in known:
                fresh += await self._put(stream, number, batch)
            progress(batch.bytes)
        version, _ = await self.execute.state(stream)
        return Imported(stream, version, told.messages, fresh, told.unreturned)

    async def _put(self, stream: str, number: int, batch: Batch) -> int:
        run_id = derived_id(RUN, f"{stream}/import/{number}")
        command = ImportMessages(run_id, _key(number), batch.sha256, batch.said)
        try:
            facts = await self.execute(stream, command, BY)
        except KeyReused as error:
            raise NotImported(f"id: {OTHERS}") from error
        except (Busy, Waiting) as error:
            raise NotImported(
                f"{stream} is in use; import the file again when it is not, and it goes on"
            ) from error
        return batch.messages if facts else 0

    # --- the conversation -----------------------------------------------------------------

    def _stream(self, told: Told) -> str:
        """Give the id that a conversation has, or that follows from what is known of it."""
        given = told.header.id
        source = f"{self.agent_id or ''}/{told.sha256}" if given is None else given
        self._seen[source] += 1
        nth = self._seen[source]
        if given is not None and nth > 1:
            raise NotImported(f"id: {given!r} stands in an earlier header of this file")
        if given is not None and is_id(CONVERSATION, given):
            return given
        # Equal ones in a file are several conversations, and the same several the next time.
        return derived_id(CONVERSATION, f"import/{source}{f'/{nth}' if nth > 1 else ''}")

    async def _known(self, stream: str, state: Conversation, told: Told) -> dict[str, str]:
        """Give the batches that are there already. Raises NotImported for another conversation."""
        if state.agent_id is None:
            return {}
        if state.deleted:
            raise NotImported(f"id: {stream} was deleted; leave `id` out to have it anew")
        rows = await self.log.query(_KEYS, (stream,))
        known = {row["key"]: row["body_hash"] for row in rows}
        if not known and await self.log.query(_RUNS, (stream,)):
            raise NotImported(f"id: {stream} is there already, with messages of its own")
        for number, batch in enumerate(told.batches):
            if known.get(_key(number), batch.sha256) != batch.sha256:
                raise NotImported(f"id: {OTHERS}")
        return known

    async def _start(self, stream: str, agent_id: str, header: Header) -> None:
        system = await compile_system(self.execute, agent_id, stream, utc_now(), Counts())
        names = ConversationSettings.model_fields.keys() & Header.model_fields.keys()
        known = _completed(header.model_dump(include=names, exclude_none=True))
        settings = ConversationSettings(**known)
        with suppress(Refused):  # somebody else has begun it meanwhile
            await self.execute(stream, StartConversation(agent_id, system, settings), BY)

    # --- its agent ------------------------------------------------------------------------

    async def _agent(self, header: Header) -> str:
        """Give the agent that is named, or make the one that is described."""
        agent_id = self.agent_id or header.agent_id
        if agent_id is None and header.agent is None:
            raise NotImported(
                "agent_id: name an agent here or with --agent, or describe one: agent"
            )
        if agent_id is None:
            spelled = header.model_dump_json(include={"agent"}, exclude_none=True)
            digest = hashlib.sha256(spelled.encode()).hexdigest()
            agent_id = derived_id(AGENT, f"import/{digest}")
        state = await self.execute.agent(agent_id)
        if state.deleted:
            raise NotImported(f"agent_id: {agent_id} was deleted; name another with --agent")
        if state.settings is None:
            if header.agent is None or self.agent_id is not None:
                raise NotImported(f"agent_id: there is no agent {agent_id}")
            await self._make(agent_id, header.agent)
        return agent_id

    async def _make(self, agent_id: str, described: AgentDescribed) -> None:
        """Make an agent, and its blocks before it."""
        blocks = described.blocks or ()
        ids = await asyncio.gather(*(self._block(agent_id, one) for one in blocks))
        given = _completed(described.model_dump(exclude={"blocks"}, exclude_none=True))
        whole: dict[str, Any] = {"system": DEFAULT_SYSTEM, **given, "block_ids": tuple(ids)}
        with suppress(Refused):  # somebody else has made it meanwhile
            await self.execute(agent_id, CreateAgent(AgentSettings(**whole)), BY)

    async def _block(self, agent_id: str, described: BlockDescribed) -> str:
        block_id = derived_id(BLOCK, f"{agent_id}/{described.label}")
        given: dict[str, Any] = described.model_dump(exclude_none=True)
        with suppress(Refused):
            await self.execute(block_id, CreateBlock(BlockSettings(**given)), BY)
        return block_id


def _completed(described: dict[str, Any]) -> dict[str, Any]:
    """Fill the defaults of its model's settings in; they were checked when they were read."""
    settings = described.get("model_settings")
    return described if settings is None else {**described, "model_settings": checked(settings)}


def _key(number: int) -> str:
    return f"import:{number}"
