"""Named ids, facts and commands that many tests share."""

from datetime import UTC, datetime
from typing import Any, Final

from domain.agent import AgentChanged, AgentCreated, AgentDeleted, AgentSettings
from domain.block import BlockChanged, BlockCreated, BlockDeleted, BlockSettings
from domain.content import Content, Image, Text, ToolSchema, UrlSource
from domain.conversation import (
    ClaimRun,
    ConversationChanged,
    ConversationDeleted,
    ConversationSettings,
    ConversationStarted,
    Counts,
    MessageAppended,
    MessageQueued,
    NewMessage,
    QueueRun,
    StartConversation,
    StartStep,
    System,
)
from domain.event import Event
from domain.run import (
    CalledTool,
    DeltaCall,
    FinishReason,
    Manifest,
    OnBusy,
    RunCancelRequested,
    RunClaimed,
    RunFinished,
    RunQueued,
    RunRequest,
    RunUsage,
    Span,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    Usage,
)

AT: Final = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
BY: Final = "user"

CONVERSATION_ID: Final = "conv-11111111-1111-4111-8111-111111111111"
OTHER_CONVERSATION_ID: Final = "conv-22222222-2222-4222-8222-222222222222"
AGENT_ID: Final = "agent-11111111-1111-4111-8111-111111111111"
BLOCK_ID: Final = "block-11111111-1111-4111-8111-111111111111"
OTHER_BLOCK_ID: Final = "block-22222222-2222-4222-8222-222222222222"
THIRD_BLOCK_ID: Final = "block-33333333-3333-4333-8333-333333333333"
RUN_ID: Final = "run-11111111-1111-4111-8111-111111111111"
NEXT_RUN_ID: Final = "run-22222222-2222-4222-8222-222222222222"
MESSAGE_ID: Final = "message-11111111-1111-4111-8111-111111111111"
NEXT_MESSAGE_ID: Final = "message-22222222-2222-4222-8222-222222222222"
REPLY_ID: Final = "message-33333333-3333-4333-8333-333333333333"
STEP_ID: Final = "step-11111111-1111-4111-8111-111111111111"
OTID: Final = "11111111-1111-4111-8111-111111111180"
BODY_HASH: Final = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"

MODEL: Final = "demo/echo"
NODE: Final = "node-1"
SYSTEM: Final = System(
    text="You are kind.",
    agent_version=1,
    blocks={"persona": (BLOCK_ID, 1)},
    counts=Counts(messages=0),
)
MANIFEST: Final = Manifest(
    system_at=1, items=(Span(first=2, last=3),), sha256=BODY_HASH, renderer="1"
)
USAGE: Final = Usage(input_tokens=10, output_tokens=3)

# --- conversations -----------------------------------------------------------------------------

started: Final = ConversationStarted(
    agent_id=AGENT_ID, system=SYSTEM, settings=ConversationSettings(summary="Small talk")
)
renamed: Final = ConversationChanged(summary="Big talk")
deleted: Final = ConversationDeleted()
start: Final = StartConversation(AGENT_ID, SYSTEM, ConversationSettings(summary="Small talk"))


def appended(
    run_id: str = RUN_ID,
    message_id: str = MESSAGE_ID,
    content: Content = "Hello!",
    queued: int | None = None,
) -> MessageAppended:
    return MessageAppended(
        message_id=message_id, otid=OTID, role="user", content=content, run_id=run_id, queued=queued
    )


def waiting(run_id: str = NEXT_RUN_ID, message_id: str = NEXT_MESSAGE_ID) -> MessageQueued:
    return MessageQueued(
        message_id=message_id,
        otid=OTID,
        role="user",
        content="And then?",
        mode="enqueue",
        run_id=run_id,
    )


# --- runs --------------------------------------------------------------------------------------


def queued(
    run_id: str = RUN_ID,
    *,
    on_busy: OnBusy = "enqueue",
    keys: tuple[str, ...] = (),
    request: RunRequest | None = None,
) -> RunQueued:
    return RunQueued(
        run_id=run_id,
        keys=keys,
        body_hash=BODY_HASH,
        request=request or RunRequest(),
        on_busy=on_busy,
    )


def queue(
    run_id: str = RUN_ID,
    message_id: str = MESSAGE_ID,
    *,
    content: Content = "Hello!",
    on_busy: OnBusy = "enqueue",
) -> QueueRun:
    message = NewMessage(message_id, OTID, "user", content)
    return QueueRun(run_id, RunRequest(), (message,), on_busy, BODY_HASH)


def claimed(run_id: str = RUN_ID, epoch: int = 1) -> RunClaimed:
    return RunClaimed(
        run_id=run_id,
        epoch=epoch,
        node=NODE,
        agent_version=1,
        model=MODEL,
        settings={},
        context_window=8000,
    )


def claim(run_id: str = RUN_ID, epoch: int = 1) -> ClaimRun:
    return ClaimRun(run_id, epoch, NODE, 1, MODEL, {}, 8000)


def cancel_requested(*run_ids: str) -> RunCancelRequested:
    return RunCancelRequested(run_ids=run_ids or (RUN_ID,), reason="user")


def finished(run_id: str = RUN_ID, epoch: int | None = 1) -> RunFinished:
    return RunFinished(
        run_id=run_id, epoch=epoch, status="completed", stop_reason="end_turn", usage=RunUsage()
    )


# --- steps -------------------------------------------------------------------------------------


def step_started(
    run_id: str = RUN_ID, *, epoch: int = 1, index: int = 0, attempt: int = 1
) -> StepStarted:
    return StepStarted(
        run_id=run_id,
        epoch=epoch,
        step_id=STEP_ID,
        index=index,
        attempt=attempt,
        message_id=REPLY_ID,
        model=MODEL,
        settings={},
        manifest=MANIFEST,
    )


def start_step(
    run_id: str = RUN_ID, *, epoch: int = 1, index: int = 0, attempt: int = 1
) -> StartStep:
    return StartStep(run_id, epoch, STEP_ID, index, attempt, REPLY_ID, MODEL, {}, MANIFEST)


def delta(s: int = 5, x: str = "Good ") -> StepDelta:
    return StepDelta(s=s, i=0, kind="text", x=x)


def part(s: int = 5, text: str = "Good day.") -> StepPart:
    return StepPart(s=s, i=0, kind="text", text=text)


def step_finished(s: int = 5, finish_reason: FinishReason | None = "stop") -> StepFinished:
    return StepFinished(s=s, outcome="ok", parts=1, usage=USAGE, finish_reason=finish_reason)


def superseded(s: int = 5, attempt: int = 1) -> StepSuperseded:
    return StepSuperseded(s=s, reason="taken_over", attempt=attempt)


# --- agents and blocks -------------------------------------------------------------------------

AGENT_SETTINGS: Final = AgentSettings(name="Ada", model=MODEL, block_ids=(BLOCK_ID,))
agent_created: Final = AgentCreated(settings=AGENT_SETTINGS)
agent_deleted: Final = AgentDeleted()

BLOCK_SETTINGS: Final = BlockSettings(label="persona", value="I am Ada.")
block_created: Final = BlockCreated(settings=BLOCK_SETTINGS)
block_deleted: Final = BlockDeleted()

# --- one of each -------------------------------------------------------------------------------

_called: Final = CalledTool(id="call-1", name="weather", arguments='{"city":"Ulm"}', gated=True)
_weather: Final = ToolSchema(name="weather", parameters={"type": "object"})

ONE_OF_EACH: Final[tuple[Event, ...]] = (
    started,
    renamed,
    deleted,
    waiting(),
    appended(content=(Text(text="Look: "), Image(source=UrlSource(url="https://example.org/a")))),
    queued(keys=("key-1",), request=RunRequest(stream_tokens=True)).model_copy(
        update={"tools": (_weather,)}
    ),
    claimed(),
    cancel_requested(RUN_ID, NEXT_RUN_ID),
    finished(),
    step_started(),
    StepDelta(s=5, i=1, kind="arguments", x='{"ci', call=DeltaCall(id="call-1", name="weather")),
    StepPart(s=5, i=1, kind="call", call=_called),
    step_finished(),
    superseded(),
    agent_created,
    AgentChanged(name="Grace", tags=("pioneer",)),
    agent_deleted,
    block_created,
    BlockChanged(base_version=1, value="I am Grace.", metadata={"source": "import"}),
    block_deleted,
)


def words(length: int) -> str:
    """Give a text of this many bytes."""
    return ("Ulm und um Ulm herum. " * (length // 22 + 1))[:length]


def named(version: int) -> BlockChanged:
    """Give a small fact that tells of itself which append it came from."""
    return BlockChanged(base_version=version, value=f"value {version}")


def settings_of(event: Any) -> set[str]:
    """Name what a fact sets, beside its type."""
    return set(event.model_fields_set) - {"type"}
