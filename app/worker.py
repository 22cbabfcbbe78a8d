"""Sees to it that every run which is not over is worked on, here or elsewhere, until it is.

One task per conversation that has a run to be worked on. It asks `pending` what comes next and has
it done, so it acts the same after a fact and after a restart. A person's cancellation is a fact; a
shutdown is not: it leaves the run as it is, to be taken up under the next epoch.

Facts wake the worker; a poll of the database stands behind the wake-ups, and is all there is where
another process has written.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from app.effects import Effects
from app.execute import Execute, TooMuchContention
from app.leases import RENEW_S, Leases
from app.log import Log, StoreUnavailable
from app.mapper import Row, revive
from domain.errors import Stale
from domain.run import Claim, Compact, EndRun, Failure, Run, RunTool, TakeStep, pending

WAKING: Final = frozenset({"run.queued", "run.finished", "run.cancel_requested", "tool.finished"})
RETRY_DELAY_S: Final = 1.0
POLL_S: Final = 1.0
POLL_PAGE: Final = 500
logger = logging.getLogger(__name__)


class Worker:
    """Steps the runs of all conversations of one log."""

    def __init__(
        self, log: Log, execute: Execute, effects: Effects, leases: Leases, *, runs_at_once_max: int
    ) -> None:
        self._log = log
        self._execute = execute
        self._effects = effects
        self._leases = leases
        self._works = runs_at_once_max > 0
        self._slots = asyncio.Semaphore(runs_at_once_max)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._woken: set[str] = set()
        self._stopping = False
        self._calls: dict[str, asyncio.Task[None]] = {}
        # The run that each conversation's task has claimed, and under which epoch.
        self._held: dict[str, tuple[str, int]] = {}
        self._watches: list[asyncio.Task[None]] = []
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._suspected: set[str] = set()
        self._polled = ""
        log.listen(self._noticed)

    # --- life -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up every run that was not over when the last server stopped."""
        await self._leases.begin()
        while await self._poll():
            pass
        self._watches = [
            asyncio.create_task(self._each(POLL_S, self._look), name="worker poll"),
            asyncio.create_task(self._each(RENEW_S, self._renew), name="worker leases"),
        ]

    async def drain(self, grace_s: float) -> None:
        """Take no more work; finish what can be within `grace_s`, hand over the rest."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait([*self._tasks.values()], timeout=grace_s)
        await self.stop()

    async def stop(self) -> None:
        """Stop working; what is not over stays so, and others may take it over at once."""
        self._stopping = True
        tasks = [*self._tasks.values(), *self._checks.values(), *self._watches]
        self._watches = []
        for task in tasks:
            task.cancel()
        if not tasks:
            return  # nothing was held, or it was let go of before
        await asyncio.wait(tasks)
        try:
            await self._leases.release()
        except StoreUnavailable as error:
            logger.warning("leases are left to lapse: %s", error)

    # --- what wakes it --------------------------------------------------------------------

    def _noticed(self, stream: str, rows: list[Row]) -> None:
        topics = WAKING.intersection(row.topic for row in rows)
        if topics:
            self._attend(stream)
        if "run.cancel_requested" in topics:
            self._obey(stream, rows)

    def _obey(self, stream: str, rows: list[Row]) -> None:
        """Break off the work under way if it is that of a run that was cancelled."""
        run_id, _ = self._held.get(stream, ("", 0))
        events = [revive(row).event for row in rows if row.topic == "run.cancel_requested"]
        if any(run_id in event.run_ids for event in events):
            self._break_off(stream)

    def heard(self, streams: Sequence[str]) -> None:
        """See whether what another process has appended is meant for a call under way here."""
        for stream in self._calls.keys() & set(streams):
            self._suspected.add(stream)
            if stream not in self._checks:
                check = asyncio.create_task(self._checked(stream), name=f"worker check {stream}")
                self._checks[stream] = check

    async def _checked(self, stream: str) -> None:
        try:
            while stream in self._suspected:
                self._suspected.discard(stream)
                await self._check(stream)
        except StoreUnavailable:
            return  # the look that comes each second will see it
        finally:
            del self._checks[stream]

    def _break_off(self, stream: str) -> None:
        call = self._calls.get(stream)
        if call is not None:
            call.cancel()

    def _attend(self, stream: str) -> None:
        if self._stopping or not self._works:
            return
        self._woken.add(stream)
        if stream not in self._tasks:
            task = asyncio.create_task(self._serve(stream), name=f"worker {stream}")
            self._tasks[stream] = task

    async def _each(self, period_s: float, act: Callable[[], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(period_s)
            try:
                await act()
            except StoreUnavailable as error:
                logger.info("%s; trying again", error)
            except Exception:
                # Neither watch may ever stop: runs would stand still and nobody would know.
                logger.exception("a watch failed")

    async def _look(self) -> None:
        """Find work that no wake-up told of, and cancellations that another process wrote."""
        await self._poll()
        if not self._log.store.exclusive:
            for stream in [*self._calls]:
                await self._check(stream)

    async def _poll(self) -> bool:
        """Attend to one page of conversations that nobody is at; tell whether there are more."""
        page = await self._leases.unattended(self._polled, POLL_PAGE)
        for stream in page:
            self._attend(stream)
        self._polled = page[-1] if len(page) == POLL_PAGE else ""
        return bool(self._polled)

    async def _check(self, stream: str) -> None:
        state = await self._execute.conversation(stream)
        run_id, epoch = self._held.get(stream, ("", 0))
        run = state.runs.get(run_id)
        if run is None or run.epoch != epoch or run.cancelled:
            self._break_off(stream)

    async def _renew(self) -> None:
        """Go on holding what is held; let go of what another node has taken over."""
        if not self._held:
            return
        for stream in await self._leases.renew([*self._held]):
            logger.info("%s: another node has taken over", stream)
            self._held.pop(stream, None)
            self._break_off(stream)

    # --- one conversation -----------------------------------------------------------------

    async def _serve(self, stream: str) -> None:
        try:
            # Woken again while we looked: what we saw may be old, so look again.
            while stream in self._woken:
                self._woken.discard(stream)
                async with self._slots:
                    while (todo := await self._next(stream)) is not None:
                        await self._work_on(stream, *todo)
        finally:
            del self._tasks[stream]
            self._held.pop(stream, None)

    async def _next(self, stream: str) -> tuple[Run, bool] | None:
        """Give the run to work on, and whether messages wait to steer it; None to leave it be."""
        while True:
            try:
                return await self._due(stream)
            except StoreUnavailable as error:
                logger.info("%s: %s; looking again", stream, error)
                await asyncio.sleep(RETRY_DELAY_S)
            except Exception:
                # Whatever it is, the run is not to be forgotten: look again later.
                logger.exception("%s: cannot tell what is owed", stream)
                await asyncio.sleep(RETRY_DELAY_S)

    async def _due(self, stream: str) -> tuple[Run, bool] | None:
        state = await self._execute.conversation(stream)
        run = state.next_run
        if run is None:
            return None
        if self._held.get(stream) != (run.run_id, run.epoch):
            if self._stopping:
                return None
            if run.epoch and not await self._leases.free(stream):
                return None  # another node is at it; the poll comes back if it stops
        return run, bool(state.steers)

    async def _work_on(self, stream: str, run: Run, steered: bool) -> None:
        """Do the next thing for a run; whatever goes wrong, the run moves or waits."""
        run_id, epoch = self._held.get(stream, ("", 0))
        effect = pending(run, epoch if run_id == run.run_id else None, steered=steered)
        try:
            work = self._effects.perform(stream, run, effect)
            if isinstance(effect, TakeStep | RunTool | Compact):
                await self._cancellable(stream, work)
            else:
                await work
            if isinstance(effect, Claim):
                self._held[stream] = (effect.run_id, effect.epoch)
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
        ending = EndRun(run.run_id, run.epoch, "failed", "error", failure)
        try:
            await self._effects.perform(stream, run, ending)
        except Exception:
            logger.exception("%s: cannot even fail", stream)
            await self._let_go(stream)

    async def _let_go(self, stream: str) -> None:
        """Begin again from a claim, later: what was under way may be stored or not."""
        self._held.pop(stream, None)
        await asyncio.sleep(RETRY_DELAY_S)

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
