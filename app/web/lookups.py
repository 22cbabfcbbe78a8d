"""From ids to what they name, in the read tables; what is not there, or no more, is a 404."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from app.history.pages import begin_of
from app.log import utc_now
from app.memory.blocks import compile_system
from app.storage.lineages import Chain
from app.tail import Closed
from app.web.endpoint import checked_run_id
from app.web.errors import ApiError
from app.web.services import Services
from domain.conversation import (
    IMPORT,
    Conversation,
    ConversationSettings,
    Counts,
    Lineage,
    StartConversation,
)
from domain.errors import NotFound, Refused
from domain.sleeptime import consolidation_of, conversation_doing
from domain.streams import (
    AGENT,
    CONVERSATION,
    default_conversation,
    is_default,
    is_id,
    system_message_id,
)
from projections.tables import UNFINISHED

# What an agent's own conversation is called in paths.
DEFAULT: Final = "default"
# A run with its agent, and the offset at which a model was first called for it: what was imported
# was said elsewhere.
RUNS: Final = (
    "SELECT runs.*, conversations.agent_id, "  # noqa: S608 - our own words
    "(SELECT min(steps.version) FROM steps WHERE steps.conversation_id = runs.conversation_id "
    f"AND steps.run_id = runs.run_id AND steps.model <> '{IMPORT}' "
    "GROUP BY steps.conversation_id) AS called_at FROM runs "
    "JOIN conversations ON conversations.conversation_id = runs.conversation_id "
)
# It may have to wait longer, for another one of the same agent.
BEGIN_WAIT_S: Final = 5.0


class Unbegun(NotFound):
    """An agent's own conversation to which nobody has written yet."""

    def __init__(self, agent_id: str) -> None:
        super().__init__("Conversation", DEFAULT)
        self.agent_id = agent_id


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run's row; where it is found by its id alone, as `RUNS` has it."""

    conversation_id: str
    run_id: str
    queued_at: int
    finished_at: int | None
    row: dict[str, Any]


async def conversation_at(
    services: Services, conversation_id: str, agent_id: str | None, *, begin: bool = False
) -> tuple[str, Conversation]:
    """Give the stream and state that a path means (contract section 1.3).

    `default` with an agent's id, or that id itself, is the agent's own conversation; it begins when
    it is first written to, if `begin` allows. Raises NotFound, Unbegun if it has not begun.
    """
    if conversation_id == DEFAULT:
        if agent_id is None:
            raise NotFound("Conversation", f"{DEFAULT}: whose it is, agent_id has to say")
        conversation_id = agent_id
    if is_id(AGENT, conversation_id):
        return await _default_of(services, conversation_id, begin=begin)
    return conversation_id, await living_conversation(services, conversation_id)


async def _default_of(
    services: Services, agent_id: str, *, begin: bool
) -> tuple[str, Conversation]:
    agent = await services.execute.agent(agent_id)
    if agent.settings is None or agent.deleted:
        raise NotFound("Agent", agent_id)
    stream = default_conversation(agent_id)
    state = await services.execute.conversation(stream)
    if state.agent_id is None and begin:
        system = await compile_system(services.execute, agent_id, DEFAULT, utc_now(), Counts())
        command = StartConversation(agent_id, system, ConversationSettings())
        with suppress(Refused):  # somebody else has begun it meanwhile
            await services.execute(stream, command, "user")
        state = await services.execute.conversation(stream)
    if state.agent_id is None or state.deleted:
        raise Unbegun(agent_id)
    return stream, state


async def window_ids(services: Services, stream: str) -> list[str]:
    """Give the ids of the messages in a conversation's window; a prompt is in it from the first."""
    window = await services.windows.newest(stream)
    ids = [system_message_id(stream), *(item.message_id for item in window.items)]
    return list(dict.fromkeys(ids))


async def living_conversation(services: Services, conversation_id: str) -> Conversation:
    """Give a conversation's state. Raises NotFound, also for an agent's own, which has no id."""
    if not is_id(CONVERSATION, conversation_id):
        raise NotFound("Conversation", conversation_id)
    state = await services.execute.conversation(conversation_id)
    if state.agent_id is None or state.deleted or is_default(conversation_id, state.agent_id):
        raise NotFound("Conversation", conversation_id)
    return state


async def existing_stream(services: Services, stream: str, kind: str, *, deleted: bool) -> None:
    """Check that a stream is there and, unless asked for, not deleted. Raises NotFound."""
    version, state = await services.execute.state(stream)
    if not version or (state.deleted and not deleted):
        raise NotFound(kind, stream)


async def audited_stream(
    services: Services, conversation_id: str, agent_id: str | None, *, deleted: bool
) -> str:
    """Give the stream that a path means, of a deleted conversation too if asked. Raises NotFound.

    `default` with an agent's id, or that id itself, is the agent's own conversation.
    """
    owner = agent_id or "" if conversation_id == DEFAULT else conversation_id
    stream = default_conversation(owner) if is_id(AGENT, owner) else owner
    if not is_id(CONVERSATION, stream):
        raise NotFound("Conversation", conversation_id)
    await existing_stream(services, stream, "Conversation", deleted=deleted)
    return stream


async def found_run(services: Services, run_id: str) -> FoundRun:
    """Give a run by its id. Raises 400 for a malformed id, 404 for an unknown one.

    A run that consolidates memory is named a moment before it begins: it is waited for.
    """
    rows = await _runs_with(services, run_id)
    if not rows and await _is_to_begin(services, run_id):
        await _begun(services, run_id)
        rows = await _runs_with(services, run_id)
    if not rows:
        raise NotFound("Run", run_id)
    return _found(rows[0])


async def _runs_with(services: Services, run_id: str) -> list[dict[str, Any]]:
    return await services.log.query(
        f"{RUNS}JOIN locators "
        "ON locators.stream = runs.conversation_id AND locators.id = runs.run_id "
        "WHERE locators.id = ? AND conversations.deleted = 0 AND runs.hidden = 0",
        (checked_run_id(run_id),),
    )


async def _is_to_begin(services: Services, run_id: str) -> bool:
    sql = "SELECT 1 FROM consolidations WHERE consolidation_id = ? AND due = 1"
    return bool(await services.log.query(sql, (consolidation_of(run_id),)))


async def _begun(services: Services, run_id: str) -> None:
    """Wait until a run that consolidates memory is queued, a few seconds at most."""
    try:
        async with asyncio.timeout(BEGIN_WAIT_S):
            with services.tail.follow(conversation_doing(run_id), 0) as follower:
                while all(row.topic != "run.queued" for row in await follower.next()):
                    pass
    except (TimeoutError, Closed):
        return


async def run_with_id(services: Services, conversation_id: str, run_id: str) -> FoundRun:
    """Give a run of a conversation, hidden or not. Raises NotFound."""
    rows = await services.log.query(
        "SELECT * FROM runs WHERE conversation_id = ? AND run_id = ?", (conversation_id, run_id)
    )
    if not rows:
        raise NotFound("Run", run_id)
    return _found(rows[0])


async def run_of_key(services: Services, conversation_id: str, key: str) -> FoundRun | None:
    """Give the run that an idempotency key of a conversation stands for."""
    rows = await services.log.query(
        "SELECT runs.* FROM idempotency_keys AS keys JOIN runs "
        "ON runs.conversation_id = keys.conversation_id AND runs.run_id = keys.run_id "
        "WHERE keys.conversation_id = ? AND keys.key = ?",
        (conversation_id, key),
    )
    return _found(rows[0]) if rows else None


async def active_run(services: Services, conversation_id: str) -> FoundRun | None:
    """Give the newest run of a conversation that is not over."""
    rows = await services.log.query(
        f"SELECT * FROM runs WHERE conversation_id = ? AND {UNFINISHED} "  # noqa: S608 - our own words
        "ORDER BY queued_at DESC LIMIT 1",
        (conversation_id,),
    )
    return _found(rows[0]) if rows else None


def _found(row: dict[str, Any]) -> FoundRun:
    return FoundRun(
        row["conversation_id"], row["run_id"], row["queued_at"], row["finished_at"], row
    )


async def place_of(services: Services, stream: str, message_id: str) -> int:
    """Give the place of a message in a conversation, 0 or less for what a fork inherited.

    Raises 404 for one of no such id.
    """
    lineage, place = await located(services, stream, message_id)
    return begin_of(lineage) if message_id == system_message_id(stream) else place


async def located(services: Services, stream: str, message_id: str) -> tuple[Lineage, int]:
    """Give the place of a message, and the lineage that tells whose offset it is. Raises 404."""
    store = services.log.store

    def found() -> tuple[Lineage, list[int]]:
        chain = Chain.of(store, stream)
        return chain.lineage, chain.located([message_id]).get(message_id, [])

    lineage, places = await services.log.in_reader(found)
    if not places:
        raise ApiError(404, f"Message not found with id={message_id}")
    return lineage, places[-1]
