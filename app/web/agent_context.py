"""What fills an agent's window, part by part."""

from contextlib import suppress
from typing import Any, Final

import orjson

from app.log import utc_now
from app.memory.blocks import compile_system
from app.web.agent_answers import living_agent
from app.web.bodies import Answer, Body, Cursor
from app.web.endpoint import AgentId, endpoint
from app.web.lookups import DEFAULT, Unbegun, conversation_at
from app.web.services import Services
from domain.conversation import Conversation, Counts, System
from domain.errors import NotFound
from domain.run import Overrides
from projections.shown_window import WindowMessage, shown
from projections.sizes import tokens_of
from projections.system import CORE_MEMORY
from projections.tokens import estimate
from projections.window import Window


class ContextQuery(Body):
    """Of which conversation; the agent's own if not said."""

    conversation_id: Cursor = DEFAULT


class ContextAnswer(Answer):
    """The parts of a window and their sizes in tokens, which are estimates.

    `context_window_size_current` is what the vendor reported, where it did, and what came after.
    """

    context_window_size_max: int
    context_window_size_current: int
    num_messages: int
    num_archival_memory: int
    num_recall_memory: int
    num_tokens_system: int
    system_prompt: str
    num_tokens_core_memory: int
    core_memory: str
    num_tokens_summary_memory: int
    summary_memory: str | None
    num_tokens_functions_definitions: int
    functions_definitions: list[dict[str, Any]]
    num_tokens_messages: int
    messages: list[WindowMessage]
    num_tokens_external_memory_summary: int = 0
    external_memory_summary: str = ""


async def show_context(services: Services, agent_id: AgentId, query: ContextQuery) -> ContextAnswer:
    """Tell what an agent's window is filled with, and how much of it."""
    await living_agent(services, agent_id)
    stream = None
    state = Conversation(agent_id=agent_id)
    with suppress(Unbegun):  # what it would begin with is shown
        stream, state = await conversation_at(services, query.conversation_id, agent_id)
    if state.agent_id != agent_id:
        raise NotFound("Conversation", query.conversation_id)
    window = Window() if stream is None else await services.windows.newest(stream)
    if window.system is None:
        system = await compile_system(services.execute, agent_id, DEFAULT, utc_now(), Counts())
    else:
        system = window.system.system
    return await _context(services, state, window, system)


async def _context(
    services: Services, state: Conversation, window: Window, system: System
) -> ContextAnswer:
    given = await services.conditions.of(state, Overrides())
    tokens = tokens_of(window)
    own = "" if given.agent.settings is None else given.agent.settings.system
    words = own.replace(CORE_MEMORY, "").strip()
    memory = _memory_in(system.text, words)
    tools = [one.model_dump(include={"name", "description", "parameters"}) for one in given.tools]
    functions = estimate(orjson.dumps(tools).decode()) if tools else 0
    unsaid = 0 if window.system is not None else estimate(system.text)
    return ContextAnswer(
        context_window_size_max=given.context_window,
        context_window_size_current=tokens.total
        + unsaid
        + (functions if tokens.reported is None else 0),
        num_messages=1 + len(window.items),
        num_archival_memory=system.counts.passages,
        num_recall_memory=system.counts.messages,
        num_tokens_system=estimate(words),
        system_prompt=words,
        num_tokens_core_memory=estimate(memory),
        core_memory=memory,
        num_tokens_summary_memory=tokens.summary,
        summary_memory=None if window.summary is None else window.summary.summary,
        num_tokens_functions_definitions=functions,
        functions_definitions=tools,
        num_tokens_messages=tokens.messages,
        messages=list(shown(window).messages),
    )


def _memory_in(text: str, words: str) -> str:
    """Give what a compiled prompt says beside the agent's own words."""
    return text.replace(words, "", 1).strip() if words else text


ENDPOINTS: Final = [
    endpoint(
        "GET",
        "/v1/agents/{agent_id}/context",
        show_context,
        ContextAnswer,
        tag="agents",
        errors=(404,),
    ),
]
