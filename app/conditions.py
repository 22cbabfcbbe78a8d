"""What a conversation's runs are worked with: model, settings, size of the window, tools."""

from dataclasses import dataclass
from typing import Any, cast

from app.execute import Execute
from app.providers.catalogue import Catalogue, MalformedHandle, UnknownHandle
from app.tools import Toolbox
from app.tools.sleeptime import OFFERED
from domain.agent import Agent
from domain.conversation import Conversation
from domain.models import model_of
from domain.run import OfferedTool, Overrides
from domain.sleeptime import Sleeptime


@dataclass(frozen=True, slots=True)
class Given:
    """What a run is given. `context_window` is in tokens, 0 if the model is not known.

    `sleeptime` is how memory is consolidated after it, None if it is not.
    """

    agent_version: int
    agent: Agent
    model: str
    settings: dict[str, Any]
    context_window: int
    tools: tuple[OfferedTool, ...]
    sleeptime: Sleeptime | None = None


class Conditions:
    """Looks them up as they are now."""

    def __init__(self, execute: Execute, catalogue: Catalogue, toolbox: Toolbox) -> None:
        self._execute = execute
        self._catalogue = catalogue
        self._toolbox = toolbox

    async def of(self, state: Conversation, overrides: Overrides) -> Given:
        """Give what a run of a conversation would be given now. Raises NotFound."""
        version, found = await self._execute.state(state.agent_id or "")
        agent = cast("Agent", found)
        handle, settings = model_of(state, agent, overrides)
        return Given(
            version,
            agent,
            handle,
            settings,
            self._context_window(handle, state, agent, overrides),
            OFFERED if state.consolidates is not None else await self._offered(agent),
            _sleeptime(state, agent),
        )

    async def _offered(self, agent: Agent) -> tuple[OfferedTool, ...]:
        if agent.settings is None:
            return ()
        settings = agent.settings
        await self._toolbox.settle(settings.tools)
        return self._toolbox.offered(
            settings.tools, settings.approval_tools, settings.terminal_tools
        )

    def _context_window(
        self, handle: str, state: Conversation, agent: Agent, overrides: Overrides
    ) -> int:
        """Tell how large the window is; a run is claimed even if the model is not known.

        A request's own model has its own window. A conversation's model is kept to the window that
        the conversation has, its own or its agent's, and to what the model can.
        """
        window = self._window_of(handle)
        if overrides.model is not None or not window:
            return window
        return min(window, state.settings.context_window_limit or self._agents(agent) or window)

    def _agents(self, agent: Agent) -> int:
        """Tell how large an agent's window is, 0 if that is not known."""
        if agent.settings is None:
            return 0
        limit, window = agent.settings.context_window_limit, self._window_of(agent.settings.model)
        return min(limit or window, window or limit or 0)

    def _window_of(self, handle: str) -> int:
        try:
            return self._catalogue.resolve(handle).context_window
        except (UnknownHandle, MalformedHandle):
            # The step that needs the model fails and says why.
            return 0


def _sleeptime(state: Conversation, agent: Agent) -> Sleeptime | None:
    """Tell how memory is consolidated; what is said in a consolidation is not, in its turn."""
    settings = agent.settings
    if settings is None or not settings.enable_sleeptime or state.consolidates is not None:
        return None
    return settings.sleeptime or Sleeptime()
