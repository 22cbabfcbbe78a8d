"""An agent as a file: what it is, its blocks, its tools by name, all that was said to it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

import orjson

from app.execute import Execute
from app.history.pages import BEGIN, listed_in
from app.log import Log
from app.memory.archival import Archival, Page
from app.memory.blocks import memory_of
from app.model_settings import as_llm_config
from app.providers.catalogue import CONTEXT_WINDOW, Catalogue, MalformedHandle, UnknownHandle
from app.storage.integrity import PAGE_ROWS
from app.storage.lineages import Chain
from app.storage.store import Store
from app.tools import Toolbox
from app.tools.rules import rules_of
from app.windows import folded
from domain.agent import Agent, AgentSettings
from domain.archive import PASSAGES_MAX
from domain.block import BlockSettings
from domain.conversation import Conversation, ConversationSettings
from domain.streams import CONSOLIDATION, CONVERSATION, default_conversation
from projections.agent_file import CONVERSATIONS_MAX
from projections.agent_file_writing import Messages
from projections.passages import Passage

Json: TypeAlias = dict[str, Any]
PASSAGES_A_PAGE: Final = 1000
FORM: Final = "everlog-1"
LOCAL_ID: Final = "agent-0"
# All but those in which memory is consolidated: of these the archive and the blocks have the outcome.
_CONVERSATIONS: Final = (
    "SELECT conversation_id FROM conversations WHERE agent_id = ? AND deleted = 0 "  # noqa: S608 - our own words
    "AND conversation_id <> ? AND NOT EXISTS (SELECT 1 FROM consolidations "
    f"WHERE consolidation_id = '{CONSOLIDATION}-' || substr(conversations.conversation_id, "
    f"{len(CONVERSATION) + 2})) ORDER BY created_at, conversation_id LIMIT ?"
)
# What is stored of an agent under the name that the file has for it.
_SAME: Final = frozenset(
    {
        "name",
        "agent_type",
        "system",
        "description",
        "tags",
        "metadata",
        "timezone",
        "context_window_limit",
        "model",
        "model_settings",
        "compaction_settings",
        "embedding",
        "message_buffer_autoclear",
        "hidden",
        "enable_sleeptime",
    }
)


class TooMany(Exception):
    """More than a file holds; the message says of what."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What of the history goes into a file: all of it, or of it one conversation, or nothing.

    One alone stands there as if it were the agent's own.
    """

    conversation_id: str | None = None
    messages: bool = True


@dataclass(slots=True)
class _Counter:
    """Numbers messages through a whole file."""

    messages: int = 0
    conversations: list[Json] = field(default_factory=list[Json])


class AgentExporter:
    """Writes agents as files."""

    def __init__(
        self,
        log: Log,
        execute: Execute,
        catalogue: Catalogue,
        toolbox: Toolbox,
        archival: Archival,
    ) -> None:
        self._log = log
        self._execute = execute
        self._catalogue = catalogue
        self._toolbox = toolbox
        self._archival = archival

    async def file_of(self, agent_id: str, state: Agent, scope: Scope, at: datetime) -> bytes:
        """Give the file of an agent that is there, indented. Raises TooLong or TooMany."""
        settings = state.settings
        if settings is None:
            raise ValueError(f"{agent_id} is not there")
        memory = await memory_of(self._execute, state)
        agent = self._agent(settings, len(memory))
        own = scope.conversation_id or default_conversation(agent_id)
        others = await self._others(agent_id, own) if scope == Scope() else []
        wanted = [own, *others] if scope.messages else []
        states = {one: await self._execute.conversation(one) for one in wanted}
        passages = await self._passages(agent_id) if scope == Scope() else []
        blocks = [_block(n, one.settings) for n, one in enumerate(memory)]
        tools = self._tools(settings)

        def written() -> bytes:
            agent.update(_history(self._log.store, wanted, states))
            if settings.sleeptime is not None:
                agent["everlog"]["sleeptime"] = settings.sleeptime.model_dump(mode="json")
            if passages:
                agent["everlog"]["passages"] = [_passage(one) for one in passages]
            return _spelled(agent, blocks, tools, at)

        return await self._log.in_reader(written)

    async def _others(self, agent_id: str, own: str) -> list[str]:
        rows = await self._log.query(_CONVERSATIONS, (agent_id, own, CONVERSATIONS_MAX + 1))
        if len(rows) > CONVERSATIONS_MAX:
            raise TooMany(f"The agent has more than {CONVERSATIONS_MAX} conversations.")
        return [row["conversation_id"] for row in rows]

    async def _passages(self, agent_id: str) -> list[Passage]:
        found: list[Passage] = []
        page = Page(limit=PASSAGES_A_PAGE)
        while listed := await self._archival.list(agent_id, page):
            found += listed
            if len(found) > PASSAGES_MAX:
                raise TooMany(f"The agent has more than {PASSAGES_MAX} passages.")
            page = Page(limit=PASSAGES_A_PAGE, after=listed[-1].passage_id)
        return found

    # --- what the agent is ----------------------------------------------------------------

    def _agent(self, settings: AgentSettings, blocks: int) -> Json:
        known = settings.model_dump(mode="json", include=set(_SAME))
        return {
            "id": LOCAL_ID,
            **known,
            "llm_config": self._llm_config(settings),
            "embedding_config": None,
            "block_ids": [f"block-{n}" for n in range(blocks)],
            "memory_blocks": [],
            "tools": [],
            "tool_ids": [f"tool-{n}" for n in range(len(settings.tools))],
            "tool_rules": rules_of(settings),
            "include_base_tools": False,
            "include_multi_agent_tools": False,
            "include_base_tool_rules": False,
            "include_default_source": False,
            "source_ids": [],
            "folder_ids": None,
            "identity_ids": None,
            "tool_exec_environment_variables": {},
            "secrets": None,
            "files_agents": [],
            "group_ids": [],
            "in_context_message_ids": [],
            "messages": [],
            "everlog": {},
        }

    def _llm_config(self, settings: AgentSettings) -> Json:
        """Describe the model as older servers did, for readers that know no handle."""
        try:
            found = self._catalogue.resolve(settings.model)
            kind, name, window = found.provider_type, found.model, found.context_window
        except (UnknownHandle, MalformedHandle):
            kind, _, name = settings.model.partition("/")
            window = CONTEXT_WINDOW
        return {
            "handle": settings.model,
            "model": name,
            "model_endpoint_type": kind,
            "model_endpoint": None,
            "provider_name": kind,
            "provider_category": "base",
            "context_window": min(window, settings.context_window_limit or window),
            "put_inner_thoughts_in_kwargs": False,
            **as_llm_config(settings.model_settings),
        }

    def _tools(self, settings: AgentSettings) -> list[Json]:
        """Name the tools; one that is not here any more is named, too."""
        offered = {one.name: one for one in self._toolbox.offered(settings.tools, ())}
        return [
            {
                "id": f"tool-{n}",
                "name": name,
                "tool_type": "custom",
                "description": offered[name].description if name in offered else None,
                "json_schema": {
                    "name": name,
                    "description": offered[name].description,
                    "parameters": offered[name].parameters,
                }
                if name in offered
                else None,
                "source_type": None,
                "source_code": None,
                "tags": [],
            }
            for n, name in enumerate(settings.tools)
        ]


# --- what was said ----------------------------------------------------------------------------


def _history(store: Store, streams: list[str], states: dict[str, Conversation]) -> Json:
    """Read the conversations, the first of them as the agent's own. Blocks. Raises TooLong."""
    written: list[Json] = []
    number = 0
    for stream in streams:
        messages, inside = _messages(store, stream, number)
        number += len(messages)
        written.append({"messages": messages, "in_context_message_ids": inside})
    own, *others = written or [{}]
    conversations = [
        {"id": f"conversation-{n}", **_settings(states[stream]), **one}
        for n, (stream, one) in enumerate(zip(streams[1:], others, strict=True))
    ]
    return {**own, "everlog": {"conversations": conversations} if conversations else {}}


def _messages(store: Store, stream: str, first: int) -> tuple[list[Json], list[str]]:
    """Read a conversation; one that has not begun has none. What is written meanwhile is not in it."""
    window, chain = folded(store, stream), Chain.of(store, stream)
    if not window.at:
        return [], []
    listed = listed_in(chain)
    messages = Messages(window, listed.hidden)
    # A fork's prompt stands before what it inherited; its ancestors' are not its own.
    messages.add(chain.fact(chain.at(BEGIN)))
    for page in chain.pages(PAGE_ROWS):
        for fact in (chain.fact(row) for row in page if row.version != BEGIN):
            if listed.reset < fact.version <= window.at:
                messages.add(fact)
    return messages.written(first)


def _settings(state: Conversation) -> Json:
    names = ConversationSettings.model_fields
    known = state.settings.model_dump(mode="json", include=set(names), exclude_none=True)
    return {**known, "archived": state.archived}


def _block(n: int, settings: BlockSettings) -> Json:
    return {"id": f"block-{n}", **settings.model_dump(mode="json")}


def _passage(passage: Passage) -> Json:
    return {
        "text": passage.text,
        "tags": list(passage.tags),
        "created_at": passage.created_at.isoformat(),
        "metadata": passage.metadata,
    }


def _spelled(agent: Json, blocks: list[Json], tools: list[Json], at: datetime) -> bytes:
    file = {
        "agents": [agent],
        "groups": [],
        "blocks": blocks,
        "files": [],
        "sources": [],
        "tools": tools,
        "mcp_servers": [],
        "skills": [],
        "metadata": {"revision_id": FORM},
        "created_at": at.isoformat(),
    }
    return orjson.dumps(file, option=orjson.OPT_INDENT_2)
