"""Which model a run uses."""

from typing import Any

from domain.agent import Agent
from domain.conversation import Conversation
from domain.errors import NotFound
from domain.run import Overrides


def model_of(state: Conversation, agent: Agent, overrides: Overrides) -> tuple[str, dict[str, Any]]:
    """Give the model's handle and settings: the request's, the conversation's or the agent's.

    Settings go with the model they were made for. Raises NotFound.
    """
    if agent.settings is None:
        raise NotFound("Agent", state.agent_id or "")
    if overrides.model is not None:
        return overrides.model, {}
    own = state.settings.model_settings
    if state.settings.model is not None:
        return state.settings.model, own or {}
    return agent.settings.model, own or agent.settings.model_settings or {}
