"""How a request is taken in: once, in its turn, or not at all."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from domain.content import Approval, ToolAnswer
from domain.conversation.commands import NewApproval, NewMessage, QueueRun
from domain.conversation.ending import denial_of, denied, return_of, stopped
from domain.conversation.events import ConversationEvent
from domain.conversation.facts import MessageAppended, MessageQueued
from domain.conversation.state import Asked, Conversation, digest_of
from domain.errors import Busy, Full, KeyReused, Unasked, Waiting
from domain.run import OnBusy, OpenCall, RunQueued, ToolFinished, ToolStatus

WAITING_RUNS_MAX: Final = 100
OTID: Final = "otid:"
MODES: Final[Mapping[OnBusy, Literal["enqueue", "steer", "interrupt"]]] = MappingProxyType(
    {
        "reject": "enqueue",
        "enqueue": "enqueue",
        "steer": "steer",
        "interrupt": "interrupt",
        "rollback": "interrupt",
    }
)


def queue(state: Conversation, command: QueueRun) -> list[ConversationEvent]:
    """Answer a request with facts, none if it is known.

    Raises KeyReused, Waiting, Unasked, Busy or Full.
    """
    if known_run(state, command) is not None:
        return []
    if command.approval is not None:
        return _answer(state, command, command.approval)
    _check_room(state, command)
    enter = _entered if state.first_run is None else _waiting
    return [
        _queued(state, command),
        *(enter(command, message) for message in command.messages),
        *_interrupted(state, command),
    ]


def _check_room(state: Conversation, command: QueueRun) -> None:
    if state.asked is not None and command.on_busy not in ("interrupt", "rollback"):
        raise Waiting
    busy = state.first_run
    if busy is not None and command.on_busy == "reject":
        raise Busy(busy.run_id)
    if len(state.runs) >= WAITING_RUNS_MAX:
        raise Full(
            f"{len(state.runs)} requests are waiting already, of at most {WAITING_RUNS_MAX}."
        )


def _interrupted(state: Conversation, command: QueueRun) -> list[ConversationEvent]:
    """Stop what is under way if the request came to interrupt it, and no other run."""
    if command.on_busy not in ("interrupt", "rollback"):
        return []
    if state.asked is not None:
        return denied(state, command.on_busy)
    return [] if state.first_run is None else stopped(state, [state.first_run], command.on_busy)


def _queued(state: Conversation, command: QueueRun, continues: str | None = None) -> RunQueued:
    tools_at = dict(state.tool_lists).get(digest_of(command.tools)) if command.tools else None
    return RunQueued(
        run_id=command.run_id,
        keys=command.keys,
        body_hash=command.body_hash,
        request=command.request,
        tools=None if tools_at is not None else command.tools or None,
        tools_at=tools_at,
        on_busy=command.on_busy,
        continues=continues,
    )


def _entered(command: QueueRun, message: NewMessage) -> ConversationEvent:
    return MessageAppended(**words_of(message), run_id=command.run_id)


def _waiting(command: QueueRun, message: NewMessage) -> ConversationEvent:
    mode = MODES[command.on_busy]
    return MessageQueued(**words_of(message), mode=mode, run_id=command.run_id)


def words_of(message: NewMessage | MessageQueued) -> dict[str, Any]:
    """Give what a message says, and of who said it what is known: what is not sent is not stored."""
    sender = {"name": message.name, "sender_id": message.sender_id}
    return {
        "message_id": message.message_id,
        "otid": message.otid,
        "role": message.role,
        "content": message.content,
        **{key: value for key, value in sender.items() if value is not None},
    }


# --- the same request again -------------------------------------------------------------------


def known_run(state: Conversation, command: QueueRun) -> str | None:
    """Give the run that a request is already, by its keys or by what it answers.

    Raises KeyReused for a key that stands for another request.
    """
    known = {key: state.keys[key] for key in command.keys if key in state.keys}
    for key, use in known.items():
        if use.body_hash != command.body_hash:
            raise KeyReused(key, use.run_id)
    otids = [key for key in command.keys if key.startswith(OTID)]
    strangers = [key for key in otids if key not in known]
    runs = {use.run_id for use in known.values()}
    if len(runs) > 1 or (strangers and len(strangers) < len(otids)):
        key = next(iter(known))
        raise KeyReused(key, known[key].run_id)
    return next(iter(runs), None) or _answered_in(state, command.approval)


def _answered_in(state: Conversation, approval: NewApproval | None) -> str | None:
    """Give the run in which these calls were answered before, unless it failed."""
    if approval is None or state.asked is not None:
        return None
    ids = frozenset(one.tool_call_id for one in approval.answers)
    for known in state.answered:
        if known.tool_call_ids == ids and not known.failed:
            return known.run_id
    return None


# --- answers to tool calls --------------------------------------------------------------------


def _answer(
    state: Conversation, command: QueueRun, approval: NewApproval
) -> list[ConversationEvent]:
    if state.asked is None:
        return _again(state, command, approval)
    answers = _checked(state.asked, command, approval)
    said = MessageAppended(
        message_id=approval.message_id,
        otid=approval.otid,
        role="approval",
        approvals=tuple(one.model_dump(mode="json", exclude_none=True) for one in answers),
        run_id=command.run_id,
    )
    calls = {call.id: call for call in state.asked.calls}
    returns = [_returned(calls[one.tool_call_id], one, command.run_id) for one in answers]
    return [
        _queued(state, command, continues=state.asked.run_id),
        said,
        *(one for one in returns if one is not None),
        *(_entered(command, message) for message in command.messages),
    ]


def _again(
    state: Conversation, command: QueueRun, approval: NewApproval
) -> list[ConversationEvent]:
    """Go on with a turn whose answers are known, but whose run failed after them."""
    ids = frozenset(one.tool_call_id for one in approval.answers)
    failed = next((one for one in state.answered if one.tool_call_ids == ids), None)
    if failed is None:
        raise Unasked(
            "Cannot process approval response: No tool call is currently awaiting approval."
        )
    if state.first_run is not None:
        raise Busy(state.first_run.run_id)
    queued = _queued(state, command, continues=failed.run_id)
    return [queued, *(_entered(command, message) for message in command.messages)]


def _checked(
    asked: Asked, command: QueueRun, approval: NewApproval
) -> tuple[Approval | ToolAnswer, ...]:
    """Check that the answers are to all of the calls that wait, and to no others."""
    answers = approval.answers
    if len(answers) == len(asked.gated) == 1 and answers[0].tool_call_id.startswith("message-"):
        # An older form names the message that asked; with one call there is no doubt.
        answers = (answers[0].model_copy(update={"tool_call_id": asked.gated[0]}),)
    received = [one.tool_call_id for one in answers]
    if sorted(received) != sorted(asked.gated):
        raise Unasked(
            f"Invalid tool call IDs. Expected '{asked.gated}', but received '{received}'."
        )
    own = {tool.name for tool in command.tools}
    names = {call.id: call.name for call in asked.calls}
    for one in answers:
        if isinstance(one, Approval) and one.approve and names[one.tool_call_id] in own:
            raise Unasked(
                f"{names[one.tool_call_id]} is the client's own tool: run it and answer "
                f"{one.tool_call_id} with its return."
            )
    return answers


def _returned(call: OpenCall, answer: Approval | ToolAnswer, run_id: str) -> ToolFinished | None:
    """Give the return that an answer is; an approved call has none yet."""
    if isinstance(answer, ToolAnswer):
        return _from_client(call, run_id, answer)
    if answer.approve:
        return None
    return return_of(call, run_id, "denied", denial_of(answer.reason), "client")


def _from_client(call: OpenCall, run_id: str, answer: ToolAnswer) -> ToolFinished:
    status: ToolStatus = "ok" if answer.status == "success" else "error"
    finished = return_of(call, run_id, status, answer.tool_return, "client")
    printed = {"stdout": answer.stdout, "stderr": answer.stderr}
    given = {name: lines for name, lines in printed.items() if lines is not None}
    return finished.model_copy(update=given)
