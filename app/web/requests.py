"""From a request's body to the command that takes it in."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import orjson

from app.web.errors import Invalid
from app.web.message_bodies import AgentMessages, MessageIn
from domain.content import InputPart, ToolSchema, parts_of
from domain.conversation import NewApproval, NewMessage, QueueRun
from domain.run import Overrides, RunRequest, RunType
from domain.streams import MESSAGE, RUN, id_of

KEY_HEADER: Final = "idempotency-key"
KEY_CHARS_MAX: Final = 256


def keys_of(body: AgentMessages, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Name a request by its header and its otids. Raises 422 for a key that cannot be one."""
    otids = [one.otid for one in body.messages or () if one.otid is not None]
    if len(set(otids)) != len(otids):
        raise Invalid("messages: an otid stands twice; each message has its own")
    header = headers.get(KEY_HEADER)
    if header is None:
        return tuple(f"otid:{otid}" for otid in otids)
    return (f"key:{checked_key(header)}", *(f"otid:{otid}" for otid in otids))


def checked_key(key: str) -> str:
    """Give an Idempotency-Key back. Raises 422."""
    if not 0 < len(key) <= KEY_CHARS_MAX:
        raise Invalid(f"Idempotency-Key: 1 to {KEY_CHARS_MAX} characters, not {len(key)}")
    return key


def command_of(
    body: AgentMessages,
    keys: tuple[str, ...],
    *,
    run_type: RunType | None = None,
    callback: str | None = None,
) -> QueueRun:
    """Make the command; ids are drawn here, as the domain draws none.

    `run_type` is that of a way to an agent itself; None is the usual one, to a conversation.
    """
    sent = _sent(body)
    first = sent[0]
    approval = None
    if first.type != "message":
        approval = NewApproval(id_of(MESSAGE, uuid4()), first.otid or str(uuid4()), first.answers)
        sent = sent[1:]
    return QueueRun(
        run_id=id_of(RUN, uuid4()),
        request=_request(body, run_type, callback),
        messages=tuple(_message(one) for one in sent),
        on_busy=body.on_busy or ("reject" if body.streaming else "enqueue"),
        body_hash=_hash(body),
        keys=keys,
        tools=_tools(body),
        approval=approval,
    )


def _sent(body: AgentMessages) -> Sequence[MessageIn]:
    return body.messages or [MessageIn(role="user", content=body.input)]


def _message(one: MessageIn) -> NewMessage:
    content = one.content if isinstance(one.content, str) else tuple(one.content or ())
    return NewMessage(
        message_id=id_of(MESSAGE, uuid4()),
        otid=one.otid or str(uuid4()),
        role=one.role or "user",
        content=content,
        name=one.name,
        sender_id=one.sender_id,
    )


def _tools(body: AgentMessages) -> tuple[ToolSchema, ...]:
    return tuple(
        ToolSchema.model_validate(one.model_dump(exclude_unset=True, exclude_none=True))
        for one in body.client_tools or ()
    )


def _request(body: AgentMessages, run_type: RunType | None, callback: str | None) -> RunRequest:
    chosen: dict[str, Any] = {
        "streaming": body.streaming,
        "stream_tokens": body.stream_tokens,
        "background": body.background,
        "pings": body.include_pings,
        "max_steps": body.max_steps,
    }
    if body.include_return_message_types is not None:
        chosen["filters"] = tuple(body.include_return_message_types)
    if body.include_compaction_messages:
        chosen["compaction_messages"] = True
    if body.override_model or body.override_system:
        chosen["overrides"] = Overrides(model=body.override_model, system=body.override_system)
    if body.client_skills:
        chosen["skills"] = tuple(body.client_skills)
    if callback is not None:
        chosen["callback"] = callback
    if run_type is not None:
        chosen["run_type"] = run_type
    return RunRequest(**chosen)


def _hash(body: AgentMessages) -> str:
    """Hash what a request means, not how its answer travels nor what names it."""
    meaning = {
        "messages": [
            [
                one.type,
                one.role,
                [part.model_dump(mode="json") for part in _parts_of(one)],
                [answer.model_dump(mode="json") for answer in one.answers],
            ]
            for one in _sent(body)
        ],
        "overrides": [body.override_model, body.override_system],
        "skills": body.client_skills or [],
        "tools": [tool.model_dump(mode="json") for tool in body.client_tools or ()],
        "max_steps": body.max_steps,
    }
    return hashlib.sha256(orjson.dumps(meaning, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _parts_of(one: MessageIn) -> Sequence[InputPart]:
    """Give a message's parts; words alone mean the same as one part with them."""
    return parts_of(one.content) if isinstance(one.content, str) else one.content or []
