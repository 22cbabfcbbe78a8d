"""Has windows compacted and records it: for a run whose window is full, or because a person asked.

A compaction can do no harm: it is recorded whole or not at all, and what comes meanwhile stays. One
is under way at a time in a conversation; whoever asks for another one is given that one's outcome.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

from app.compaction.compacting import Failed, Task, Worked, worked_out
from app.compaction.leases import CompactionLeases
from app.compaction.outcomes import Done, compacted_of, done_of
from app.compaction.settings import CompactionSettingsIn, complete, merged
from app.compaction.summariser import Own, Summariser
from app.conditions import Conditions, Given
from app.execute import Execute
from app.leases import Leases
from app.log import Log, StoreUnavailable, utc_now
from app.memory.blocks import compile_system
from app.recall.rebuilding import begun_at, client_tools
from app.windows import Windows, marked_facts
from domain.agent import Agent
from domain.compaction import CompactionSettings
from domain.conversation import (
    Counts,
    FailCompaction,
    RecordCompaction,
    StartCompaction,
    System,
    WindowCompacted,
    WindowCompactionFailed,
)
from domain.errors import DomainError, NotFound, Stale
from domain.event import Command, Recorded
from domain.run import Compact, Overrides, Run, RunClaimed, RunRequest
from domain.streams import COMPACTION, MESSAGE, id_of, is_default
from projections.cuts import bonds_of
from projections.items import StepItem, SummaryItem
from projections.sizes import tokens_of
from projections.window import Window

LOOK_S: Final = 0.1
MS_PER_S: Final = 1000
USER: Final = "user"
# Ends of somebody else's compaction after which it is worth while to try ourselves.
PASSING: Final = frozenset({"lost", "cancelled", "overtaken"})
logger = logging.getLogger(__name__)


class Compactor:
    """Compacts windows, in the name of one node."""

    def __init__(  # noqa: PLR0913 - the parts it works with
        self,
        log: Log,
        execute: Execute,
        windows: Windows,
        conditions: Conditions,
        summariser: Summariser,
        *,
        node: str,
        percentage: float,
    ) -> None:
        self._log = log
        self._execute = execute
        self._windows = windows
        self._conditions = conditions
        self._leases = CompactionLeases(Leases(log, node))
        self.summariser = summariser
        self._by = f"worker:{node}"
        self._percentage = percentage

    # --- for a run ------------------------------------------------------------------------

    async def make_room(self, stream: str, run: Run, effect: Compact) -> None:
        """Compact a run's window, or record why it cannot be. `Stale` goes through."""
        if run.claimed is None:
            raise ValueError(f"{run.run_id} is compacted but not claimed")
        task = await self._task_of_run(stream, run, run.claimed, effect)
        compaction_id = await self._start(stream, task, run, effect)
        if compaction_id is None:
            await self._until_over(stream)  # somebody else is making the room
            return
        await self._carry_out(stream, compaction_id, task, run)

    async def _task_of_run(
        self, stream: str, run: Run, claimed: RunClaimed, effect: Compact
    ) -> Task:
        state = await self._execute.conversation(stream)
        given = await self._conditions.of(state, run.request.overrides)
        tools = await self._log.in_reader(
            lambda: client_tools(self._log.store, stream, run.tools_at)
        )
        own = Own(claimed.model, run.request, claimed, tools)
        return Task(
            window=await self._windows.newest(stream),
            bonds=bonds_of(state),
            settings=self._settings_of(given.agent),
            trigger=effect.trigger,
            context_window=claimed.context_window,
            own=own,
        )

    def _settings_of(self, agent: Agent) -> CompactionSettings:
        if agent.settings is None:
            return complete("", None, self._percentage)
        return complete(agent.settings.model, agent.settings.compaction_settings, self._percentage)

    # --- for a person ---------------------------------------------------------------------

    async def compact(self, stream: str, sent: CompactionSettingsIn | None) -> Done:
        """Compact a conversation's window now; give what came of it, or of another's meanwhile."""
        since = (await self._execute.conversation(stream)).version
        done = None
        while done is None:
            state = await self._execute.conversation(stream)
            under_way = state.window.compacting
            if (recorded := state.window.recorded_after(since)) is not None:
                done = await self._told(stream, recorded)
            elif under_way is None or await self._lost(stream) is not None:
                done = await self._compacted(stream, sent, since)
            else:
                done = await self._outcome(stream, under_way.compaction_id)
        return done

    async def task(
        self,
        stream: str,
        sent: CompactionSettingsIn | None,
        at: int | None = None,
        *,
        base: CompactionSettings | None = None,
        context_window: int | None = None,
    ) -> Task:
        """Say what a compaction that a person asks for would work on, now or at an offset.

        `base` are the settings that what was sent is merged with, the agent's if not given.
        """
        state = await self._execute.conversation(stream)
        given = await self._conditions.of(state, Overrides())
        window = await (
            self._windows.newest(stream) if at is None else self._windows.at(stream, at)
        )
        then = state if at is None else await self._execute.conversation_at(stream, at)
        return Task(
            window=window,
            bonds=bonds_of(then),
            settings=merged(base or self._settings_of(given.agent), sent),
            trigger="manual",
            context_window=given.context_window if context_window is None else context_window,
            own=await self._own(stream, window, given),
        )

    async def context_window(self, stream: str) -> int:
        """Tell how large a conversation's window may be, in tokens; 0 if that is not known."""
        state = await self._execute.conversation(stream)
        return (await self._conditions.of(state, Overrides())).context_window

    async def size_of(self, stream: str, window: Window) -> int:
        """Count a window's tokens for the model that a conversation's next run uses.

        What the vendor has reported of it is the truth.
        """
        tokens = tokens_of(window)
        if tokens.reported is not None:
            return tokens.total
        state = await self._execute.conversation(stream)
        given = await self._conditions.of(state, Overrides())
        own = await self._own(stream, window, given)
        counted = await self.summariser.counted(window, own, given.context_window, tokens.total)
        return tokens.total if counted is None else counted

    async def _own(self, stream: str, window: Window, given: Given) -> Own:
        """Give the agent's model with what the newest reply in the window was asked with."""
        steps = [item.offset for item in window.items if isinstance(item, StepItem)]
        store = self._log.store
        begun = None
        if steps:
            owner, s = window.marks.lineage.named(max(steps))
            begun = await self._log.in_reader(lambda: begun_at(store, owner or stream, s))
        if begun is not None and begun.asked is not None and begun.claimed is not None:
            return Own(begun.started.model, begun.asked, begun.claimed, begun.own_tools)
        claimed = RunClaimed(
            run_id="",
            epoch=0,
            node="",
            agent_version=given.agent_version,
            model=given.model,
            settings=given.settings,
            context_window=given.context_window,
            tools=given.tools,
        )
        return Own(given.model, RunRequest(), claimed)

    async def _compacted(
        self, stream: str, sent: CompactionSettingsIn | None, since: int
    ) -> Done | None:
        """Compact, unless somebody else is at it, or has been since."""
        async with self._leases.held(stream) as held:
            if not held:
                await asyncio.sleep(LOOK_S)
                return None
            state = await self._execute.conversation(stream)
            if state.window.recorded_after(since) is not None:
                return None
            task = await self.task(stream, sent)
            compaction_id = await self._start(stream, task)
            if compaction_id is None:
                return None
            try:
                return await self._carry_out(stream, compaction_id, task)
            except Stale:  # whoever put an end to it has said why
                return await self._told(stream, compaction_id)

    async def _outcome(self, stream: str, compaction_id: str) -> Done | None:
        """Wait for a compaction under way; None if it was lost, or is worth another try."""
        await self._until_over(stream)
        done = await self._told(stream, compaction_id)
        passing = done is None or (done.failure is not None and done.failure.reason in PASSING)
        return None if passing else done

    async def _told(self, stream: str, compaction_id: str) -> Done | None:
        """Read what came of a compaction, None if that is not known yet."""
        for fact in reversed(await marked_facts(self._log, stream)):
            about = isinstance(fact.event, WindowCompacted | WindowCompactionFailed)
            if about and fact.event.compaction_id == compaction_id:
                return done_of(compaction_id, [fact])
        return None

    async def _until_over(self, stream: str) -> None:
        """Wait until no compaction is under way, or nobody is at the one that is."""
        while (await self._execute.conversation(stream)).window.compacting is not None:
            if await self._lost(stream) is not None:
                return
            await asyncio.sleep(LOOK_S)

    async def _lost(self, stream: str) -> str | None:
        """Name the compaction that a person had asked for, if nobody is at it any more."""
        by_hand = await self._by_hand(stream)
        return by_hand if by_hand and await self._leases.free(stream) else None

    async def _by_hand(self, stream: str) -> str | None:
        """Name the compaction under way that a person had asked for."""
        under_way = (await self._execute.conversation(stream)).window.compacting
        if under_way is None or under_way.run_id is not None:
            return None
        return under_way.compaction_id

    # --- either way -----------------------------------------------------------------------

    async def _start(
        self, stream: str, task: Task, run: Run | None = None, effect: Compact | None = None
    ) -> str | None:
        """Record that a compaction begins; None if another is under way.

        Whoever begins one for a person holds the lease, so that another by hand has been left.
        """
        left = await (self._by_hand(stream) if run is None else self._lost(stream))
        compaction_id = id_of(COMPACTION, uuid4())
        command = StartCompaction(
            compaction_id,
            task.trigger,
            event_id=id_of(MESSAGE, uuid4()),
            tokens=tokens_of(task.window).total,
            context_window=task.context_window,
            run_id=None if run is None else run.run_id,
            epoch=0 if run is None else run.epoch,
            s=None if effect is None else effect.s,
            instead_of=left,
        )
        return compaction_id if await self._do(stream, command, run) else None

    async def _carry_out(
        self, stream: str, compaction_id: str, task: Task, run: Run | None = None
    ) -> Done:
        """Work out a compaction that has begun, and record what came of it."""
        begun = time.monotonic()
        try:
            worked = await worked_out(task, self.summariser)
        except asyncio.CancelledError:
            if run is None:  # a run's is closed with the run, by whoever ends it or takes it over
                await self._give_up(stream, compaction_id)
            raise
        except Exception as error:  # a flaw of ours must not keep the conversation from going on
            logger.exception("%s: cannot compact", stream)
            worked = Failed("summariser_failed", type(error).__name__, ())
        if isinstance(worked, Failed):
            return await self._failed(stream, compaction_id, worked, run)
        system = None if run is None else await self._recompiled(stream, task, worked)
        event = compacted_of(compaction_id, task, worked, run, _ms_since(begun), system)
        return done_of(compaction_id, await self._do(stream, RecordCompaction(event), run))

    async def _failed(
        self, stream: str, compaction_id: str, failed: Failed, run: Run | None
    ) -> Done:
        event = WindowCompactionFailed(
            compaction_id=compaction_id,
            reason=failed.reason,
            detail=failed.detail,
            attempts=failed.attempts,
        )
        return done_of(compaction_id, await self._do(stream, FailCompaction(event), run))

    async def _give_up(self, stream: str, compaction_id: str) -> None:
        """Say that nobody is at it any more: the client that waited went away, or we shut down."""
        event = WindowCompactionFailed(compaction_id=compaction_id, reason="cancelled")
        with suppress(StoreUnavailable, DomainError):
            await asyncio.shield(self._do(stream, FailCompaction(event), None))

    async def _recompiled(self, stream: str, task: Task, worked: Worked) -> System | None:
        """Compile the system prompt anew: memory may have changed since the last time."""
        state = await self._execute.conversation(stream)
        if state.consolidates is not None:
            return None  # it has a prompt of its own, which says what to do
        agent_id = state.agent_id or ""
        named = "default" if is_default(stream, agent_id) else stream
        own = [one for one in worked.plan.evicted if not isinstance(one, SummaryItem)]
        counts = Counts(messages=task.window.marks.evicted_messages + len(own))
        with suppress(NotFound):  # an agent that is gone leaves the prompt as it was
            return await compile_system(
                self._execute, agent_id, named, utc_now(), counts, isolated=state.isolated
            )
        return None

    async def _do(self, stream: str, command: Command, run: Run | None) -> list[Recorded[Any]]:
        return await self._execute(stream, command, USER if run is None else self._by)


def _ms_since(begun: float) -> int:
    return round((time.monotonic() - begun) * MS_PER_S)
