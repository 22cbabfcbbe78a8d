"""Does what a consolidation is owed: its conversation, its run, and what comes of that.

What is owed is read off the log: asked again after a crash, or by another node, it is the same, and
whatever was done before is done no second time.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from app.conditions import Conditions
from app.execute import Execute
from app.log import Log
from app.mapper import revive
from app.memory.blocks import blocks_of
from app.memory.renewing import Renewing
from app.memory.stretches import chars_max, stretch_at
from app.memory.turns import Turns
from app.memory.versions import block_at, changed_by
from app.tools import Call, ToolFailed
from app.tools.sleeptime import Piece
from domain.agent import AttachBlock
from domain.block import BlockMoved, BlockSettings, ChangeBlock, CreateBlock
from domain.conversation import (
    CancelRuns,
    ConsolidationFinished,
    Conversation,
    ConversationSettings,
    FinishConsolidation,
    NewMessage,
    QueueRun,
    StartConversation,
    System,
    UnderWay,
)
from domain.errors import DomainError, NotFound, Refused
from domain.run import Cause, Overrides, RunRequest
from domain.sleeptime import (
    LABEL_DEFAULT,
    Consolidates,
    ConsolidationOutcome,
    conversation_of,
    run_of,
)
from domain.streams import BLOCK, MESSAGE, derived_id
from projections.consolidation import (
    SYSTEM,
    Draft,
    Line,
    Stretch,
    chosen,
    draft_of,
    task_of,
    within,
)
from projections.system import MemoryBlock

TAG: Final = "consolidated"
DESCRIPTION: Final = "What is known about the person the assistant talks with."
IDLE: Final = (
    "The model never said what is to be stored: it called no tool for that, or none rightly."
)
MOVED: Final = "The block was changed by somebody else meanwhile, so this is only proposed."


class Archive(Protocol):
    """Where memories are kept."""

    async def insert(  # noqa: PLR0913 - what a memory is, each of it by name
        self, agent_id: str, text: str, *, tags: Sequence[str], cause: Cause, key: str, by: str
    ) -> object:
        """Put a text into an agent's archive; the same `key` puts it there once."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """A consolidation that is being done, as its own conversation knows it."""

    stream: str
    agent_id: str
    consolidates: Consolidates
    block_id: str
    base_version: int


class Consolidating:
    """Carries out the consolidations of one log, in the name of one node."""

    def __init__(  # noqa: PLR0913 - what it works with, each of it by name
        self,
        log: Log,
        execute: Execute,
        *,
        conditions: Conditions,
        archive: Archive,
        renewing: Renewing,
        turns: Turns,
        by: str,
    ) -> None:
        self._log = log
        self._execute = execute
        self._conditions = conditions
        self._archive = archive
        self._renewing = renewing
        self._turns = turns
        self._by = by

    async def advance(self, source: str) -> None:
        """Do what the consolidation of a conversation is owed now, if one is under way.

        Nothing is done while another node sees to those of the same agent. Raises StoreUnavailable
        or TooMuchContention; what cannot be done ends it instead.
        """
        agent_id = (await self._execute.conversation(source)).agent_id
        if agent_id is not None:
            async with self._turns.alone(agent_id) as alone:
                if alone:
                    await self._advance(source)

    async def _advance(self, source: str) -> None:
        state = await self._execute.conversation(source)
        under_way = state.memory.under_way
        if under_way is None:
            return
        try:
            ended = await self._next(source, state, under_way)
        except DomainError as error:
            ended = self._failed(under_way, "failed", str(error))
        if ended is None:
            return
        if ended.stored or ended.outcome == "applied":
            await self.make_known(source)
        await self.finish(source, ended)

    async def waits(self, source: str, consolidation_id: str) -> bool:
        """Tell whether there is nothing to do but to wait: for its run, or for its turn."""
        state = await self._execute.conversation(source)
        inner = await self._execute.conversation(conversation_of(consolidation_id))
        if state.deleted:
            return False
        if inner.agent_id is not None:
            return run_of(consolidation_id) in inner.runs
        return not await self._turns.is_next(state.agent_id or "", consolidation_id)

    async def make_known(self, source: str) -> None:
        """Have the prompt of a conversation say what memory holds now: nobody else will."""
        state = await self._execute.conversation(source)
        if not state.deleted:
            with suppress(DomainError):  # it, or its agent, was deleted a moment ago
                await self._renewing.renew(source, state, self._by)

    async def finish(self, source: str, ended: ConsolidationFinished) -> None:
        """Note what a consolidation came to, once."""
        await self._execute(source, FinishConsolidation(ended), self._by)

    async def _next(
        self, source: str, state: Conversation, under_way: UnderWay
    ) -> ConsolidationFinished | None:
        """Begin, or wait, or tell how it ended."""
        asked = under_way.event
        stream = asked.conversation_id
        inner = await self._execute.conversation(stream)
        if state.deleted:
            with suppress(DomainError):  # there is nothing to stop
                await self._execute(stream, CancelRuns(reason="deleted"), self._by)
            return self._failed(under_way, "cancelled", "The conversation was deleted.")
        if inner.agent_id is None:
            if not await self._turns.is_next(state.agent_id or "", asked.consolidation_id):
                return None
            stretch = await self._begin(source, state, under_way)
            if not stretch.lines:
                nothing = self._failed(under_way, "unchanged", "Nothing was said.")
                return nothing.model_copy(update={"upto": stretch.reach})
            inner = await self._execute.conversation(stream)
        if _key(under_way) not in inner.keys:
            await self._ask(await self._job(stream), under_way)
            inner = await self._execute.conversation(stream)
        if asked.run_id in inner.runs:
            return None
        return await self._settled(await self._job(stream), under_way)

    def _failed(
        self, under_way: UnderWay, outcome: ConsolidationOutcome, detail: str
    ) -> ConsolidationFinished:
        consolidation_id = under_way.event.consolidation_id
        return ConsolidationFinished(
            consolidation_id=consolidation_id, outcome=outcome, detail=detail
        )

    # --- its beginning --------------------------------------------------------------------

    async def stretch(self, source: str, after: int, at: int) -> Stretch:
        """Give what was said after an offset as it was seen at another. Blocks nobody."""
        return await self._log.in_reader(lambda: stretch_at(self._log.store, source, after, at))

    async def _begin(self, source: str, state: Conversation, under_way: UnderWay) -> Stretch:
        """Start the conversation in which it is done, unless there is nothing to be done."""
        asked = under_way.event
        given = await self._conditions.of(state, Overrides(model=asked.terms.model))
        stretch = await self.stretch(source, asked.after, under_way.at)
        stretch = within(stretch, chars_max(given.context_window))
        if stretch.upto is None:
            return stretch
        target = await self._target(state, under_way)
        label = target.settings.label
        blocks = {label: (target.block_id, target.version)}
        command = StartConversation(
            state.agent_id or "",
            System(text=SYSTEM, agent_version=given.agent_version, blocks=blocks),
            ConversationSettings(hidden=True, model=asked.terms.model, summary=f"Memory: {label}"),
            consolidates=Consolidates(
                conversation_id=source,
                consolidation_id=asked.consolidation_id,
                after=asked.after,
                upto=stretch.upto,
                at=under_way.at,
            ),
        )
        with suppress(Refused):  # another node has begun it meanwhile
            await self._execute(asked.conversation_id, command, self._by)
        return stretch

    async def _target(self, state: Conversation, under_way: UnderWay) -> MemoryBlock:
        """Find the block to bring up to date, or make it. Raises Refused for a read-only one."""
        agent = await self._execute.agent(state.agent_id or "")
        label = under_way.event.terms.block_label
        blocks = await blocks_of(self._execute, agent, state)
        found = chosen(blocks, label)
        if found is not None and not found.settings.read_only:
            return found
        label = label or LABEL_DEFAULT
        if any(one.settings.label == label for one in blocks):
            raise Refused(f"The block {label!r} is read-only.")
        return await self._made(state.agent_id or "", under_way, label)

    async def _made(self, agent_id: str, under_way: UnderWay, label: str) -> MemoryBlock:
        block_id = derived_id(BLOCK, under_way.event.consolidation_id)
        settings = BlockSettings(label=label, description=DESCRIPTION)
        with suppress(Refused):  # made before a crash
            await self._execute(block_id, CreateBlock(settings), self._by)
        await self._execute(agent_id, AttachBlock(block_id), self._by)
        made = await self._execute.block(block_id)
        return MemoryBlock(block_id, made.version, made.settings or settings)

    async def _ask(self, job: Job, under_way: UnderWay) -> None:
        """Queue the run, with what it has to work on; a run that is known is not queued again."""
        shown = await self._block_at(job.block_id, job.base_version)
        words = task_of(await self._lines(job), shown)
        message_id = derived_id(MESSAGE, f"{job.stream}/task")
        await self._execute(
            job.stream,
            QueueRun(
                run_id=under_way.event.run_id,
                request=RunRequest(
                    streaming=False, background=True, max_steps=under_way.event.terms.max_steps
                ),
                messages=(NewMessage(message_id, message_id.split("-", 1)[1], "user", words),),
                on_busy="enqueue",
                body_hash=hashlib.sha256(_key(under_way).encode()).hexdigest(),
                keys=(_key(under_way),),
            ),
            self._by,
        )

    async def _block_at(self, block_id: str, version: int) -> BlockSettings:
        """Give a block as it was at a version, whatever has been made of it since."""
        store = self._log.store
        settings = (await self._log.in_reader(lambda: block_at(store, block_id, version))).settings
        if settings is None:
            raise NotFound("Block", block_id)
        return settings

    # --- its end --------------------------------------------------------------------------

    async def _settled(self, job: Job, under_way: UnderWay) -> ConsolidationFinished:
        draft = await self._draft(job)
        ending = draft.ending
        if ending is None or ending.status == "cancelled":
            return self._failed(under_way, "cancelled", "Its run was cancelled.")
        if ending.status == "failed":
            error = ending.error
            words = f"Its run failed: {ending.stop_reason}." if error is None else error.message
            return self._failed(under_way, "failed", words)
        if not draft.reviewed:
            return self._failed(under_way, "failed", IDLE)
        done = ConsolidationFinished(
            consolidation_id=under_way.event.consolidation_id,
            outcome="unchanged",
            upto=job.consolidates.upto,
            stored=draft.stored,
            block_id=job.block_id,
            base_version=job.base_version,
        )
        base = await self._block_at(job.block_id, job.base_version)
        if draft.value is None or draft.written_at is None or draft.value == base.value:
            return done
        cause = Cause(stream=job.stream, offset=draft.written_at)
        done = done.model_copy(update={"outcome": "proposed", "value": draft.value, "cause": cause})
        return done if under_way.event.terms.require_acceptance else await self._applied(done)

    async def _applied(self, done: ConsolidationFinished) -> ConsolidationFinished:
        """Change the block, unless somebody else has: then what was made of it is a proposal."""
        block_id = done.block_id or ""
        change = ChangeBlock({"value": done.value}, done.base_version, done.cause)
        try:
            await self._execute(block_id, change, self._by)
        except (BlockMoved, NotFound) as error:
            detail = MOVED if isinstance(error, BlockMoved) else "The block was deleted meanwhile."
            return done.model_copy(update={"detail": detail})
        version = await self.version_of(done)
        return done.model_copy(update={"outcome": "applied", "version": version})

    async def version_of(self, done: ConsolidationFinished) -> int | None:
        """Give the version that a block has become by a consolidation, None if it has not."""
        block_id, cause, base = done.block_id, done.cause, done.base_version
        if block_id is None or cause is None or base is None:
            return None
        store = self._log.store
        return await self._log.in_reader(lambda: changed_by(store, block_id, cause, base))

    # --- for its tools --------------------------------------------------------------------

    async def lines(self, call: Call) -> tuple[Line, ...]:
        """Give the numbered lines. Raises ToolFailed if there is nothing to consolidate here."""
        return (await self._lines(await self._job_of(call))).lines

    async def keep(self, call: Call, number: int, piece: Piece) -> None:
        """Put a piece into the agent's archive, once for its lines. Raises ToolFailed.

        Once also if a consolidation fails after that: the next goes through the same lines again.
        """
        job = await self._job_of(call)
        of, cause = job.consolidates, Cause(stream=job.stream, offset=call.started_at, n=number)
        since = (await self._execute.conversation(of.conversation_id)).memory.settled_at
        key = f"{of.conversation_id}/{since}/{of.after}/{piece.first}-{piece.last}"
        try:
            await self._archive.insert(
                job.agent_id, piece.text, tags=(TAG,), cause=cause, key=key, by=self._by
            )
        except DomainError as error:
            raise ToolFailed(str(error)) from None

    async def chars_max(self, call: Call) -> int:
        """Give the number of characters that the block may hold. Raises ToolFailed."""
        job = await self._job_of(call)
        return (await self._block_at(job.block_id, job.base_version)).limit

    async def reviewed(self, call: Call) -> bool:
        """Tell whether the lines have been gone through."""
        return (await self._draft(await self._job_of(call))).reviewed

    async def _job_of(self, call: Call) -> Job:
        try:
            return await self._job(call.conversation_id)
        except NotFound:
            raise ToolFailed("There is nothing to be consolidated here.") from None

    async def _job(self, stream: str) -> Job:
        """Read what a consolidation is off the first fact of its conversation. Raises NotFound."""
        rows = await self._log.read(stream, upto=1)
        started = revive(rows[0]).event if rows else None
        if started is None or started.consolidates is None:
            raise NotFound("Consolidation", stream)
        ((block_id, version),) = started.system.blocks.values()
        return Job(stream, started.agent_id, started.consolidates, block_id, version)

    async def _lines(self, job: Job) -> Stretch:
        of = job.consolidates
        stretch = await self.stretch(of.conversation_id, of.after, of.at)
        lines = tuple(one for one in stretch.lines if one.offset <= of.upto)
        return replace(stretch, lines=lines)

    async def _draft(self, job: Job) -> Draft:
        rows = await self._log.read(job.stream, deltas=False)
        return draft_of(map(revive, rows), run_of(job.consolidates.consolidation_id))


def _key(under_way: UnderWay) -> str:
    return f"consolidation:{under_way.event.consolidation_id}"
