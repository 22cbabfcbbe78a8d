"""Does what a run is owed: one effect at a time, each ending in a fact."""

from typing import Any, assert_never

from app.compaction.compactor import Compactor
from app.conditions import Conditions
from app.execute import Execute
from app.step import Steps
from app.toolrun import ToolRunner
from domain.conversation import ClaimRun, FinishRun, JoinSteers
from domain.event import Command, Recorded
from domain.run import (
    Claim,
    CloseCall,
    CloseStep,
    Compact,
    Effect,
    EndRun,
    LetIn,
    Run,
    RunTool,
    TakeStep,
)


class Effects:
    """Performs effects in the name of one node."""

    def __init__(  # noqa: PLR0913 - the parts it works with
        self,
        execute: Execute,
        steps: Steps,
        tools: ToolRunner,
        compactor: Compactor,
        conditions: Conditions,
        *,
        node: str,
    ) -> None:
        self._execute = execute
        self._steps = steps
        self._tools = tools
        self._compactor = compactor
        self._conditions = conditions
        self._node = node

    async def perform(self, stream: str, run: Run, effect: Effect) -> None:
        """Do one thing for a run. Raises Stale if the run is no longer this node's."""
        match effect:
            case Claim():
                await self._claim(stream, run, effect)
            case LetIn():
                await self._do(stream, JoinSteers(effect.run_id, effect.epoch))
            case TakeStep():
                await self._steps.take(stream, run, effect)
            case CloseStep():
                await self._steps.close(stream, effect)
            case RunTool():
                await self._tools.run(stream, run, effect)
            case CloseCall():
                await self._tools.close(stream, effect)
            case Compact():
                await self._compactor.make_room(stream, run, effect)
            case EndRun():
                await self._do(stream, FinishRun(effect))
            case _:
                assert_never(effect)

    async def _do(self, stream: str, command: Command) -> list[Recorded[Any]]:
        return await self._execute(stream, command, f"worker:{self._node}")

    async def _claim(self, stream: str, run: Run, effect: Claim) -> None:
        """Make a run this node's own, and pin what it is worked with."""
        state = await self._execute.conversation(stream)
        given = await self._conditions.of(state, run.request.overrides)
        agent = given.agent.settings
        await self._do(
            stream,
            ClaimRun(
                effect.run_id,
                effect.epoch,
                self._node,
                given.agent_version,
                given.model,
                given.settings,
                given.context_window,
                given.tools,
                sleeptime=given.sleeptime,
                forgetful=agent is not None and agent.message_buffer_autoclear,
            ),
        )
