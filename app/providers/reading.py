"""A vendor's stream as deltas, and the reply that is exactly those deltas joined."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.messages import (
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.usage import RequestUsage

from app.providers import Delta, DeltaKind, ModelError, Reply, Usage
from app.providers.rendering import REDACTED_ID
from domain.content import OutputPart, Reasoning, Redacted, Text, ToolCall


@dataclass(slots=True)
class Growing:
    """A part so far: the texts of its deltas by their kind."""

    index: int
    texts: dict[DeltaKind, list[str]] = field(default_factory=dict[DeltaKind, list[str]])
    call_id: str = ""
    call_name: str = ""

    def grow(self, kind: DeltaKind, text: str) -> Delta:
        """Add to the part and tell what was added."""
        self.texts.setdefault(kind, []).append(text)
        return Delta(self.index, kind, text)

    def joined(self, kind: DeltaKind) -> str:
        """Give all that was added of a kind."""
        return "".join(self.texts.get(kind, ()))

    def part(self) -> OutputPart:
        """Give the part that the deltas so far come to."""
        if "arguments" in self.texts:
            arguments = self.joined("arguments")
            return ToolCall(id=self.call_id, name=self.call_name, arguments=arguments)
        if "redacted" in self.texts:
            return Redacted(data=self.joined("redacted"))
        if "text" in self.texts:
            return Text(text=self.joined("text"))
        return Reasoning(text=self.joined("reasoning"), signature=self.joined("signature") or None)


class Reader:
    """Reads one reply. Parts are built from the very deltas that were given out, nothing else."""

    def __init__(self) -> None:
        # By the library's index. Ours counts only parts that had something in them.
        self._parts: dict[int, Growing] = {}

    def read(self, event: ModelResponseStreamEvent) -> Iterator[Delta]:
        """Tell what an event adds to the reply: mostly one delta, sometimes none or two."""
        match event:
            case PartDeltaEvent(index=index, delta=TextPartDelta(content_delta=text)):
                yield from self._grow(index, "text", text)
            case PartDeltaEvent(index=index, delta=ThinkingPartDelta() as delta):
                yield from self._grow(index, "reasoning", delta.content_delta)
                yield from self._grow(index, "signature", delta.signature_delta)
            case PartDeltaEvent(index=index, delta=ToolCallPartDelta(args_delta=args)):
                yield from self._grow(index, "arguments", _json(args))
            case PartStartEvent():
                yield from self._start(event)
            case PartEndEvent(index=index, part=ToolCallPart()):
                yield from self._end_call(index)
            case _:
                # The ends of other parts, and the library's guess that a result is coming.
                return

    def reply(self, response: ModelResponse) -> Reply:
        """Give the whole reply once the stream has ended. Refuses an unfinished or empty one."""
        details = response.provider_details or {}
        stop_reason: object = details.get("finish_reason")
        if stop_reason is None:
            raise ModelError("stream_incomplete", "The model's stream ended before its reply did.")
        if not self._parts:
            raise ModelError(
                "llm_empty_response",
                "The model sent an empty reply.",
                detail=f"stop reason: {stop_reason}",
            )
        return Reply(
            parts=tuple(growing.part() for growing in self._parts.values()),
            usage=usage_of(response.usage),
            finish_reason=response.finish_reason or "stop",
        )

    def _start(self, event: PartStartEvent) -> Iterator[Delta]:
        index, part = event.index, event.part
        match part:
            case TextPart():
                yield from self._grow(index, "text", part.content)
            case ThinkingPart(id=identity) if identity == REDACTED_ID:
                yield from self._grow(index, "redacted", part.signature)
            case ThinkingPart():
                yield from self._grow(index, "reasoning", part.content)
                yield from self._grow(index, "signature", part.signature)
            case ToolCallPart():
                yield self._start_call(index, part)
            case _:
                raise ModelError(
                    "llm_error", f"The model sent a part of an unknown kind, {part.part_kind}."
                )

    def _start_call(self, index: int, part: ToolCallPart[Any]) -> Delta:
        growing = self._at(index)
        growing.call_id, growing.call_name = part.tool_call_id, part.tool_name
        delta = growing.grow("arguments", _json(part.args))
        return Delta(delta.index, delta.kind, delta.text, growing.call_id, growing.call_name)

    def _end_call(self, index: int) -> Iterator[Delta]:
        # A call without arguments arrives without any text, but its arguments are JSON all the same.
        if not self._at(index).joined("arguments"):
            yield from self._grow(index, "arguments", "{}")

    def _grow(self, index: int, kind: DeltaKind, text: str | None) -> Iterator[Delta]:
        if text:
            yield self._at(index).grow(kind, text)

    def _at(self, index: int) -> Growing:
        if index not in self._parts:
            self._parts[index] = Growing(index=len(self._parts))
        return self._parts[index]


def usage_of(usage: RequestUsage) -> Usage:
    """Give the usage as reported. The library's `input_tokens` already count what was cached."""
    reported = usage.details
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=reported.get("cache_read_input_tokens"),
        cache_write_tokens=reported.get("cache_creation_input_tokens"),
        reasoning_tokens=reported.get("thinking_tokens"),
    )


def _json(arguments: str | dict[str, Any] | None) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
