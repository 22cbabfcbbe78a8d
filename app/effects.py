"""Does what a run is owed: one effect at a time, each ending in a fact."""

from typing import Any, assert_never

from app.execute import Execute
from app.providers.catalogue import Catalogue, MalformedHandle, UnknownHandle
from app.step import Steps
from app.toolrun import ToolRunner
from app.tools import Toolbox
from domain.agent import Agent
from domain.conversation import ClaimRun, Conversation, FinishRun, JoinSteers
from domain.event import Command, Recorded
from domain.models import model_of
from domain.run import (
    Claim,
    CloseCall,
    CloseStep,
    Effect,
    EndRun,
    LetIn,
    OfferedTool,
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
        toolbox: Toolbox,
        catalogue: Catalogue,
        *,
        node: str,
    ) -> None:
        self._execute = execute
        self._steps = steps
        self._tools = tools
        self._toolbox = toolbox
        self._catalogue = catalogue
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
            case EndRun():
                await self._do(stream, FinishRun(effect))
            case _:
                assert_never(effect)

    async def _do(self, stream: str, command: Command) -> list[Recorded[Any]]:
        return await self._execute(stream, command, f"worker:{self._node}")

    async def _claim(self, stream: str, run: Run, effect: Claim) -> None:
        """Make a run this node's own, and pin what it is worked with."""
        state = await self._execute.conversation(stream)
        version, agent = await self._execute.state(state.agent_id or "")
        handle, settings = model_of(state, agent, run.request.overrides)
        await self._do(
            stream,
            ClaimRun(
                effect.run_id,
                effect.epoch,
                self._node,
                version,
                handle,
                settings,
                self._context_window(handle, state, agent),
                self._offered(agent),
            ),
        )

    def _offered(self, agent: Agent) -> tuple[OfferedTool, ...]:
        if agent.settings is None:
            return ()
        return self._toolbox.offered(agent.settings.tools, agent.settings.approval_tools)

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
