"""Writes the agents of a file into the log: all that can be refused is refused before anything.

Blocks come first, then archives and conversations, the agents last: what was left half-done by a crash
belongs to agents that are not there. Every id follows from the import's `salt`, so that the same import
again writes only what is missing.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from app.agent_files.settings import Conversion, completed
from app.agent_files.windows import Evicting, eviction_of
from app.execute import Execute
from app.history.lines import Batch, Gathered, spelled_out
from app.log import Log, utc_now
from app.mapper import revive
from app.memory.blocks import versions_of
from app.providers.catalogue import Resolved
from app.storage.store import question_marks
from app.windows import Windows
from domain.agent import AgentCreated, AgentSettings, CreateAgent
from domain.archive import TAGS_TOGETHER_MAX, InsertPassage
from domain.block import BlockSettings, CreateBlock
from domain.conversation import (
    ChangeConversation,
    ConversationChanged,
    ConversationSettings,
    Counts,
    ImportMessages,
    StartConversation,
    System,
)
from domain.errors import KeyReused, Refused
from domain.streams import (
    AGENT,
    BLOCK,
    CONVERSATION,
    MESSAGE,
    PASSAGE,
    RUN,
    archive_of,
    default_conversation,
    derived_id,
)
from projections.agent_file import AgentFile, BadFile, FileAgent, FileBlock, FilePassage
from projections.agent_file_parts import LeftOut
from projections.agent_file_reading import Told, told_by
from projections.system import MemoryBlock, compiled

BY: Final = "import"
BLOCKS_AT_ONCE: Final = 16
PASSAGES_AT_ONCE: Final = 64
REPLACED: Final = "\N{REPLACEMENT CHARACTER}"
Blocks: TypeAlias = dict[str, MemoryBlock]


@dataclass(frozen=True, slots=True)
class PlannedConversation:
    """A conversation to be written. `own` is the agent's default one."""

    conversation_id: str
    own: bool
    settings: ConversationSettings
    archived: bool
    told: Told
    batches: tuple[Batch, ...]


@dataclass(frozen=True, slots=True)
class PlannedAgent:
    """An agent to be written, and all that is its own."""

    agent_id: str
    settings: AgentSettings
    resolved: Resolved
    blocks: tuple[str, ...]
    conversations: tuple[PlannedConversation, ...]
    passages: tuple[FilePassage, ...]

    @property
    def taken(self) -> "Taken":
        """What comes over."""
        told = [one.told for one in self.conversations]
        return Taken(
            self.agent_id,
            self.settings.name,
            self.settings.model,
            len(self.blocks),
            len(self.conversations),
            sum(len(one.said) for one in told),
            sum(len(one.said) - len(one.evicted) for one in told),
            len(self.passages),
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """What of an agent came over; a reply with its calls' returns is one of its `messages`."""

    agent_id: str
    name: str
    model: str
    blocks: int
    conversations: int
    messages: int
    in_window: int
    passages: int


@dataclass(frozen=True, slots=True)
class Planned:
    """A whole file, checked: its `blocks` by their ids here."""

    blocks: dict[str, BlockSettings]
    agents: tuple[PlannedAgent, ...]


# --- the plan ---------------------------------------------------------------------------------


def planned(file: AgentFile, conversion: Conversion, salt: str) -> Planned:
    """Work out all that is to be written. Takes its time. Raises BadFile or NoModel."""
    wanted = {key for one in file.agents for key in one.block_ids or ()}
    blocks = {
        derived_id(BLOCK, f"{salt}/{one.id}"): _block(one)
        for one in file.blocks
        if one.id in wanted
    }
    agents = [_agent(n, one, conversion, salt) for n, one in enumerate(file.agents)]
    conversion.tell_of_rest()
    return Planned(blocks, tuple(agents))


def _block(one: FileBlock) -> BlockSettings:
    given = one.model_dump(exclude={"id"}, exclude_none=True)
    return BlockSettings(**given)


def _agent(n: int, one: FileAgent, conversion: Conversion, salt: str) -> PlannedAgent:
    place = f"agents[{n}]"
    settings, resolved = conversion.settings_of(place, one)
    blocks = tuple(derived_id(BLOCK, f"{salt}/{key}") for key in one.block_ids or ())
    agent_id = derived_id(AGENT, f"{salt}/{n}")
    told = _conversations(place, one, agent_id, conversion.left_out)
    conversations = () if conversion.wishes.strip_messages else tuple(told)
    _check_passages(f"{place}.everlog.passages", one.remarks.passages)
    return PlannedAgent(
        agent_id,
        settings.model_copy(update={"block_ids": blocks}),
        resolved,
        blocks,
        conversations,
        one.remarks.passages,
    )


def _conversations(
    place: str, agent: FileAgent, agent_id: str, left_out: LeftOut
) -> Iterator[PlannedConversation]:
    told = told_by(agent.messages, agent.in_context_message_ids, place, left_out)
    own = default_conversation(agent_id)
    if agent.messages:
        yield PlannedConversation(own, True, ConversationSettings(), False, told, _batches(told))
    for n, one in enumerate(agent.remarks.conversations):
        here = f"{place}.everlog.conversations[{n}]"
        told = told_by(one.messages, one.in_context_message_ids, here, left_out)
        names = set(ConversationSettings.model_fields)
        known = one.model_dump(include=names, exclude_none=True)
        if settings := completed(here, one.model_settings):
            known["model_settings"] = settings
        settings = ConversationSettings(**known)
        stream = derived_id(CONVERSATION, f"{agent_id}/{n}")
        yield PlannedConversation(stream, False, settings, one.archived, told, _batches(told))


def _batches(told: Told) -> tuple[Batch, ...]:
    """Cut what was said into appends."""
    gathered = Gathered()
    batches: list[Batch] = []
    for said in told.said:
        spelled = spelled_out(said)
        batches += gathered.add(said, 1, len(spelled), spelled)
    return (*batches, *gathered.rest())


def _check_passages(place: str, passages: tuple[FilePassage, ...]) -> None:
    """Check what an archive would refuse: by then half of it would be written. Raises BadFile."""
    tags: set[str] = set()
    for n, one in enumerate(passages):
        if not one.text.strip():
            raise BadFile(f"{place}[{n}].text", "must not be blank")
        tags.update(one.tags)
        if len(tags) > TAGS_TOGETHER_MAX:
            words = f"an archive has at most {TAGS_TOGETHER_MAX} different ones"
            raise BadFile(f"{place}[{n}].tags", words)


# --- the writing ------------------------------------------------------------------------------


class AgentImporter:
    """Writes what is planned."""

    def __init__(self, log: Log, execute: Execute, windows: Windows, percentage: float) -> None:
        self._log = log
        self._execute = execute
        self._windows = windows
        self._percentage = percentage

    async def write(self, plan: Planned) -> list[Taken]:
        """Write a file's agents, or what is missing of them.

        Raises KeyReused if they are there as another import made them, Refused if they were deleted
        since, StoreUnavailable.
        """
        for agent in plan.agents:
            await self._check(agent)
        blocks = await self._blocks(plan.blocks)
        for agent in plan.agents:
            await self._history(agent, blocks)
        for agent in plan.agents:
            with suppress(Refused):  # it was made before
                await self._execute(agent.agent_id, CreateAgent(agent.settings), BY)
        return [one.taken for one in plan.agents]

    async def _check(self, planned: PlannedAgent) -> None:
        """Check that an agent is not there, or is there as this import makes it."""
        state = await self._execute.agent(planned.agent_id)
        if state.settings is None:
            return
        if state.deleted:
            raise Refused(f"{planned.agent_id} was imported under this key, and deleted since.")
        rows = await self._log.in_reader(lambda: self._log.store.read(planned.agent_id, upto=1))
        event = revive(rows[0]).event
        if not isinstance(event, AgentCreated) or event.settings != planned.settings:
            raise KeyReused("Idempotency-Key", planned.agent_id)

    async def _blocks(self, blocks: dict[str, BlockSettings]) -> Blocks:
        pairs = list(blocks.items())
        for at in range(0, len(pairs), BLOCKS_AT_ONCE):
            some = pairs[at : at + BLOCKS_AT_ONCE]
            await asyncio.gather(*(self._once(key, CreateBlock(one)) for key, one in some))
        return {key: MemoryBlock(key, 1, one) for key, one in pairs}

    async def _once(self, stream: str, command: Any) -> None:
        with suppress(Refused):  # it was made before
            await self._execute(stream, command, BY)

    async def _history(self, agent: PlannedAgent, blocks: Blocks) -> None:
        commands = [
            _insert(f"{agent.agent_id}/passage/{n}", one) for n, one in enumerate(agent.passages)
        ]
        for at in range(0, len(commands), PASSAGES_AT_ONCE):
            await self._passages(archive_of(agent.agent_id), commands[at : at + PASSAGES_AT_ONCE])
        for one in agent.conversations:
            await self._conversation(agent, one, [blocks[key] for key in agent.blocks])

    async def _passages(self, stream: str, commands: list[InsertPassage]) -> None:
        """Put in those that are missing; of all but the newest ones only the read table knows."""
        ids = [one.passage_id for one in commands]
        rows = await self._log.query(
            "SELECT passage_id FROM passages WHERE archive_id = ? "  # noqa: S608 - only question marks
            f"AND passage_id IN ({question_marks(ids)})",
            (stream, *ids),
        )
        known = {row["passage_id"] for row in rows}
        missing = [one for one in commands if one.passage_id not in known]
        await asyncio.gather(*(self._execute(stream, one, BY) for one in missing))

    async def _conversation(
        self, agent: PlannedAgent, one: PlannedConversation, memory: list[MemoryBlock]
    ) -> None:
        stream = one.conversation_id
        command = StartConversation(agent.agent_id, _system(agent, one, memory), one.settings)
        await self._once(stream, command)
        for n, batch in enumerate(one.batches):
            key = f"import:{n}"
            imported = ImportMessages(_run_id(stream, n), key, batch.sha256, batch.said)
            await self._execute(stream, imported, BY)
        if one.told.evicted:
            await self._evict(agent, one)
        if one.archived:
            change = ChangeConversation(ConversationChanged(archived=True))
            await self._execute(stream, change, BY)

    async def _evict(self, agent: PlannedAgent, one: PlannedConversation) -> None:
        """Have leave the window what had left it before."""
        stream = one.conversation_id
        state = await self._execute.conversation(stream)
        if state.window.compactions:
            return
        window = await self._windows.newest(stream)
        evicting = Evicting(
            stream, one.told, tuple(_message_ids(one)), agent.settings, agent.resolved
        )
        command = await asyncio.to_thread(eviction_of, window, evicting, self._percentage)
        await self._execute(stream, command, BY)


def _insert(key: str, one: FilePassage) -> InsertPassage:
    # What a text column cannot hold everywhere, as in passages that come by themselves.
    texts = [text.replace("\0", REPLACED) for text in (one.text, *one.tags)]
    passage_id = derived_id(PASSAGE, key)
    return InsertPassage(passage_id, texts[0], tuple(texts[1:]), one.created_at, one.metadata)


def _system(agent: PlannedAgent, one: PlannedConversation, memory: list[MemoryBlock]) -> System:
    """Compile the prompt of an agent that is not there yet; its first fact will be version 1."""
    counts = Counts(messages=len(one.told.evicted), passages=len(agent.passages))
    text = compiled(
        agent.settings,
        memory,
        agent_id=agent.agent_id,
        conversation_id="default" if one.own else one.conversation_id,
        at=utc_now(),
        counts=counts,
        archive_tags=sorted({tag for passage in agent.passages for tag in passage.tags}),
    )
    return System(text=text, agent_version=1, blocks=versions_of(memory), counts=counts)


def _run_id(stream: str, batch: int) -> str:
    return derived_id(RUN, f"{stream}/import/{batch}")


def _message_ids(one: PlannedConversation) -> Iterator[str]:
    """Name what was said, in order: an imported message's id follows from its run and place."""
    for n, batch in enumerate(one.batches):
        run_id = _run_id(one.conversation_id, n)
        for place in range(len(batch.said)):
            yield derived_id(MESSAGE, f"{run_id}/{place}")
