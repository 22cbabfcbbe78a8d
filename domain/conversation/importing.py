"""How what was said elsewhere is taken in: as a run that is over in the append that begins it.

A message is a message. A reply that thought or called tools is a step of a model named `import`,
whose manifest says that no request was made; for such a step the run is claimed, by nobody else.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from domain.conversation.commands import (
    QueueRun,
)
from domain.conversation.ending import return_of
from domain.conversation.events import ConversationEvent
from domain.conversation.facts import MessageAppended
from domain.conversation.import_commands import (
    ImportMessages,
    SaidMessage,
    SaidReply,
    SaidReturn,
)
from domain.conversation.queueing import queue
from domain.conversation.state import Conversation
from domain.errors import Full, Unasked
from domain.run import (
    FinishReason,
    Manifest,
    OpenCall,
    RunClaimed,
    RunFinished,
    RunRequest,
    RunUsage,
    StepFinished,
    StepStarted,
    ToolFinished,
)
from domain.streams import MESSAGE, STEP, derived_id, otid_of

# What one append takes, returns of tools counted; a longer history is several.
IMPORTED_MESSAGES_MAX: Final = 256
IMPORT: Final = "import"
EPOCH: Final = 1
NO_RETURN: Final = "This call had no return when the conversation was imported."
NO_REQUEST: Final = Manifest(system_at=0, items=(), sha256="", renderer="none")
REQUEST: Final = RunRequest(streaming=False, pings=False)

Facts = list[ConversationEvent]


def take_in(state: Conversation, command: ImportMessages) -> Facts:
    """Answer with the facts of a whole run, none if its key is known.

    Raises KeyReused, Busy, Waiting, Full, or Unasked for a return that no call asked for.
    """
    _check(command)
    queued = queue(state, _asked(command))
    if not queued:
        return []
    replies = [one for one in command.said if isinstance(one, SaidReply)]
    facts: Facts = [*queued, *([_claimed(command)] if replies else [])]
    index = 0
    for place, said in enumerate(command.said):
        identity = derived_id(MESSAGE, f"{command.run_id}/{place}")
        if isinstance(said, SaidMessage):
            facts.append(_message(command, identity, said))
            continue
        s = state.version + len(facts) + 1
        facts += [_started(command, identity, index, said), *_taken(command, identity, s, said)]
        index += 1
    return [*facts, _finished(command, index)]


def messages_in(said: SaidMessage | SaidReply) -> int:
    """Count the messages that this becomes: a reply's calls have a return each."""
    return 1 if isinstance(said, SaidMessage) else 1 + len(_calls(said))


def _check(command: ImportMessages) -> None:
    for said in command.said:
        if isinstance(said, SaidReply):
            _check_returns(said)
    messages = sum(map(messages_in, command.said))
    if messages > IMPORTED_MESSAGES_MAX:
        raise Full(
            f"{messages} messages are more than one import takes, {IMPORTED_MESSAGES_MAX}: "
            "make it several."
        )


def _check_returns(said: SaidReply) -> None:
    """Check that every call can have its one return, and that no return is without its call."""
    calls = _calls(said)
    returns = [one.tool_call_id for one in said.returns]
    for names, what in ((calls, "is called"), (returns, "returns")):
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise Unasked(f"{twice} {what} more than once in one reply.")
    for name in returns:
        if name not in calls:
            raise Unasked(f"{name} returns, but is no call of the reply before it.")


def _calls(said: SaidReply) -> list[str]:
    """Name the calls of a reply; those that broke off with it are none."""
    parts = () if said.interrupted else said.parts
    return [part.call.id for part in parts if part.call is not None]


def _asked(command: ImportMessages) -> QueueRun:
    return QueueRun(
        command.run_id, REQUEST, (), "reject", body_hash=command.body_hash, keys=(command.key,)
    )


def _claimed(command: ImportMessages) -> RunClaimed:
    return RunClaimed(
        run_id=command.run_id,
        epoch=EPOCH,
        node=IMPORT,
        agent_version=0,
        model=IMPORT,
        settings={},
        context_window=0,
    )


def _message(command: ImportMessages, identity: str, said: SaidMessage) -> MessageAppended:
    appended = MessageAppended(
        message_id=identity,
        otid=said.otid or otid_of(identity, 0),
        role=said.role,
        content=said.content,
        run_id=command.run_id,
    )
    return appended.model_copy(update=_when(said.said_at))


def _when(said_at: datetime | None) -> dict[str, Any]:
    return {} if said_at is None else {"said_at": said_at}


def _finished(command: ImportMessages, steps: int) -> RunFinished:
    return RunFinished(
        run_id=command.run_id,
        epoch=EPOCH if steps else None,
        status="completed",
        stop_reason="end_turn",
        usage=RunUsage(step_count=steps),
    )


# --- a reply and its calls --------------------------------------------------------------------


def _started(command: ImportMessages, identity: str, index: int, said: SaidReply) -> StepStarted:
    started = StepStarted(
        run_id=command.run_id,
        epoch=EPOCH,
        step_id=_step_id(identity),
        index=index,
        attempt=1,
        message_id=identity,
        model=IMPORT,
        settings={},
        manifest=NO_REQUEST,
    )
    return started.model_copy(update=_when(said.said_at))


def _step_id(identity: str) -> str:
    return derived_id(STEP, identity)


def _taken(
    command: ImportMessages, identity: str, s: int, said: SaidReply
) -> Iterable[ConversationEvent]:
    """Give what follows the beginning of step `s`: its parts, its end, a return for each call."""
    also = {**({"interrupted": True} if said.interrupted else {}), **_when(said.said_at)}
    for i, part in enumerate(said.parts):
        yield part.model_copy(update={"s": s, "i": i, **also})
    calls = _calls(said)
    yield StepFinished(
        s=s,
        outcome="interrupted" if said.interrupted else "ok",
        parts=len(said.parts),
        finish_reason=_why(said, calls),
    )
    returns = {one.tool_call_id: one for one in said.returns}
    for part in said.parts:
        if part.call is not None and part.call.id in calls:
            call = OpenCall(
                s, _step_id(identity), identity, part.call.id, part.call.name, part.call.arguments
            )
            yield _returned(call, command.run_id, returns.get(call.id))


def _why(said: SaidReply, calls: list[str]) -> FinishReason | None:
    if said.interrupted:
        return None
    return "tool_call" if calls else "stop"


def _returned(call: OpenCall, run_id: str, said: SaidReturn | None) -> ToolFinished:
    if said is None:
        return return_of(call, run_id, "unknown", NO_RETURN, "system")
    finished = return_of(call, run_id, said.status, said.content, said.source or "client")
    printed = {"stdout": said.stdout, "stderr": said.stderr}
    given = {name: lines for name, lines in printed.items() if lines is not None}
    return finished.model_copy(update={**given, **_when(said.said_at)})
