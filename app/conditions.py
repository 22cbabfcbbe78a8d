"""What a conversation's runs are worked with: model, settings, size of the window, tools."""

from dataclasses import dataclass
from typing import Any, cast

from app.execute import Execute
from app.providers.catalogue import Catalogue, MalformedHandle, UnknownHandle
from app.tools import Toolbox
from domain.agent import Agent
from domain.conversation import Conversation
from domain.models import model_of
from domain.run import OfferedTool, Overrides


@dataclass(frozen=True, slots=True)
class Given:
    """What a run is given. `context_window` is in tokens, 0 if the model is not known."""

    agent_version: int
    agent: Agent
    model: str
    settings: dict[str, Any]
    context_window: int
    tools: tuple[OfferedTool, ...]


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
            self._context_window(handle, state, agent),
            self._offered(agent),
        )

    def _offered(self, agent: Agent) -> tuple[OfferedTool, ...]:
        if agent.settings is None:
            return ()
        return self._toolbox.offered(agent.settings.tools, agent.settings.approval_tools)

    def _context_window(self, handle: str, state: Conversation, agent: Agent) -> int:
        try:
            window = self._catalogue.resolve(handle).context_window
        except (UnknownHandle, MalformedHandle):
            # A run is claimed all the same: the step that needs the model fails and says why.
            return 0
        limits = [state.settings.context_window_limit]
        if agent.settings is not None:
            limits.append(agent.settings.context_window_limit)
        return min([window, *(limit for limit in limits if limit)])
