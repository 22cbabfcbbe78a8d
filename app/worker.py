"""Performs what runs are owed: claims them, calls the model, keeps what it says, ends them.

One task per conversation that has a run which is not over. It asks `pending` what comes next and
does that, so it acts the same after a fact and after a restart. A person's cancellation is a fact;
a shutdown is not: it leaves the run as it is, to be taken up under the next epoch.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, assert_never

from app.execute import Execute, TooMuchContention
from app.log import Log, StoreUnavailable
from app.mapper import Row, revive
from app.providers.catalogue import Catalogue, MalformedHandle, UnknownHandle
from app.step import Steps
from domain.agent import Agent
from domain.conversation import ClaimRun, Conversation, FinishRun
from domain.errors import Stale
from domain.event import Command, Recorded
from domain.models import model_of
from domain.run import Claim, CloseStep, Effect, EndRun, Failure, Run, TakeStep, pending

WAKING: Final = frozenset({"run.queued", "run.finished", "run.cancel_requested"})
RETRY_DELAY_S: Final = 1.0
logger = logging.getLogger(__name__)


class Worker:
    """Steps the runs of all conversations of one log."""

    def __init__(  # noqa: PLR0913 - the parts it works with
        self,
        log: Log,
        execute: Execute,
        steps: Steps,
        catalogue: Catalogue,
        *,
        node: str,
        runs_at_once_max: int,
    ) -> None:
        self._log = log
        self._execute = execute
        self._steps = steps
        self._catalogue = catalogue
        self._by = f"worker:{node}"
        self._node = node
        self._slots = asyncio.Semaphore(runs_at_once_max)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._woken: set[str] = set()
        self._stopping = False
        self._calls: dict[str, asyncio.Task[None]] = {}
        # The run that each conversation's task has claimed, and under which epoch.
        self._held: dict[str, tuple[str, int]] = {}
        log.listen(self._noticed)

    async def start(self) -> None:
        """Take up every run that was not over when the last server stopped."""
        sql = "SELECT DISTINCT conversation_id FROM runs WHERE status IN ('created', 'running')"
        for row in await self._log.query(sql):
            self._attend(row["conversation_id"])

    async def stop(self) -> None:
        """Stop working; what is not over stays so."""
        self._stopping = True
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _noticed(self, stream: str, rows: list[Row]) -> None:
        topics = WAKING.intersection(row.topic for row in rows)
        if topics:
            self._attend(stream)
        if "run.cancel_requested" in topics:
            self._break_off(stream, rows)

    def _break_off(self, stream: str, rows: list[Row]) -> None:
        """Stop the model call under way if it is that of a run that was cancelled."""
        call, (run_id, _) = self._calls.get(stream), self._held.get(stream, ("", 0))
        events = [revive(row).event for row in rows if row.topic == "run.cancel_requested"]
        if call is not None and any(run_id in event.run_ids for event in events):
            call.cancel()

    def _attend(self, stream: str) -> None:
        if self._stopping:
            return
        self._woken.add(stream)
        if stream not in self._tasks:
            task = asyncio.create_task(self._serve(stream), name=f"worker {stream}")
            self._tasks[stream] = task

    async def _serve(self, stream: str) -> None:
        try:
            # Woken again while we looked: what we saw may be old, so look again.
            while stream in self._woken:
                self._woken.discard(stream)
                while (run := await self._next_run(stream)) is not None:
                    async with self._slots:
                        await self._work_on(stream, run)
        finally:
            del self._tasks[stream]
            self._held.pop(stream, None)

    async def _next_run(self, stream: str) -> Run | None:
        while True:
            try:
                return (await self._execute.conversation(stream)).next_run
            except Exception:
                # Whatever it is, the run is not to be forgotten: look again later.
                logger.exception("%s: cannot tell what is owed", stream)
                await asyncio.sleep(RETRY_DELAY_S)

    async def _work_on(self, stream: str, run: Run) -> None:
        """Do the next thing for a run; whatever goes wrong, the run moves or waits."""
        run_id, epoch = self._held.get(stream, ("", 0))
        effect = pending(run, epoch if run_id == run.run_id else None)
        try:
            await self._perform(stream, run, effect)
        except Stale as error:
            logger.info("%s: %s", stream, error)
        except (StoreUnavailable, TooMuchContention) as error:
            logger.warning("%s: %s; trying again", stream, error)
            await self._let_go(stream)
        except Exception as error:
            logger.exception("%s: %s failed", stream, type(effect).__name__)
            await self._give_up(stream, run, error)

    async def _give_up(self, stream: str, run: Run, error: Exception) -> None:
        """End a run that we cannot make progress with, rather than try for ever."""
        failure = Failure(
            error_type="internal_error",
            message="An unknown error occurred",
            detail=type(error).__name__,
        )
        try:
            await self._end(stream, EndRun(run.run_id, run.epoch, "failed", "error", failure))
        except Exception:
            logger.exception("%s: cannot even fail", stream)
            await self._let_go(stream)

    async def _let_go(self, stream: str) -> None:
        """Begin again from a claim, later: what was under way may be stored or not."""
        self._held.pop(stream, None)
        await asyncio.sleep(RETRY_DELAY_S)

    async def _perform(self, stream: str, run: Run, effect: Effect) -> None:
        match effect:
            case Claim():
                await self._claim(stream, run, effect)
            case TakeStep():
                await self._cancellable(stream, self._steps.take(stream, run, effect))
            case CloseStep():
                await self._steps.close(stream, effect)
            case EndRun():
                await self._end(stream, effect)
            case _:
                assert_never(effect)

    async def _do(self, stream: str, command: Command) -> list[Recorded[Any]]:
        return await self._execute(stream, command, self._by)

    async def _end(self, stream: str, ending: EndRun) -> None:
        await self._do(stream, FinishRun(ending))

    async def _claim(self, stream: str, run: Run, effect: Claim) -> None:
        state = await self._execute.conversation(stream)
        version, agent = await self._execute.state(state.agent_id or "")
        handle, settings = model_of(state, agent, run.request.overrides)
        window = self._context_window(handle, state, agent)
        await self._do(
            stream,
            ClaimRun(effect.run_id, effect.epoch, self._node, version, handle, settings, window),
        )
        self._held[stream] = (effect.run_id, effect.epoch)

    def _context_window(self, handle: str, state: Conversation, agent: Agent) -> int:
        try:
            window = self._catalogue.resolve(handle).context_window
        except (UnknownHandle, MalformedHandle):
            # The run is claimed all the same: the step that needs the model fails and says why.
            return 0
        limits = [state.settings.context_window_limit]
        if agent.settings is not None:
            limits.append(agent.settings.context_window_limit)
        return min([window, *(limit for limit in limits if limit)])

    async def _cancellable(self, stream: str, work: Coroutine[Any, Any, None]) -> None:
        """Do work that a cancel request breaks off; our own cancellation goes through."""
        call = asyncio.create_task(work, name=f"step {stream}")
        self._calls[stream] = call
        try:
            await asyncio.wait([call])
        finally:
            del self._calls[stream]
            call.cancel()
            await asyncio.wait([call])
        if not call.cancelled():
            call.result()
