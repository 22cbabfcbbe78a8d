"""From what a model said to the parts that are stored."""

from collections.abc import Collection, Iterable, Sequence

from domain.content import OutputPart, Reasoning, Redacted, Text, ToolCall
from domain.run import CalledTool, PartKind, StepDelta, StepPart


def stored_parts(
    s: int, parts: Sequence[OutputPart], gated: Collection[str] = ()
) -> tuple[StepPart, ...]:
    """Give the parts of step `s`'s whole reply as facts; calls of `gated` names are gated."""
    return tuple(_stored(s, index, part, gated) for index, part in enumerate(parts))


def _stored(s: int, i: int, part: OutputPart, gated: Collection[str]) -> StepPart:
    match part:
        case Text():
            return StepPart(s=s, i=i, kind="text", text=part.text)
        case Reasoning(signature=None):
            return StepPart(s=s, i=i, kind="reasoning", text=part.text)
        case Reasoning():
            return StepPart(s=s, i=i, kind="reasoning", text=part.text, signature=part.signature)
        case Redacted():
            return StepPart(s=s, i=i, kind="redacted", text=part.data)
        case ToolCall():
            call = CalledTool(id=part.id, name=part.name, arguments=part.arguments)
            if part.name in gated:
                call = call.model_copy(update={"gated": True})
            return StepPart(s=s, i=i, kind="call", call=call)


def interrupted_parts(s: int, deltas: Iterable[StepDelta]) -> tuple[StepPart, ...]:
    """Give what the kept deltas of step `s` come to: exactly their words."""
    by_index: dict[int, list[StepDelta]] = {}
    for delta in deltas:
        by_index.setdefault(delta.i, []).append(delta)
    return tuple(_interrupted(s, i, grown) for i, grown in sorted(by_index.items()))


def _interrupted(s: int, i: int, grown: list[StepDelta]) -> StepPart:
    words = "".join(delta.x for delta in grown if delta.kind != "signature")
    call = next((delta.call for delta in grown if delta.call is not None), None)
    if call is not None:
        called = CalledTool(id=call.id, name=call.name, arguments=words)
        return StepPart(s=s, i=i, kind="call", call=called, interrupted=True)
    part = StepPart(s=s, i=i, kind=_kind(grown), text=words, interrupted=True)
    signature = "".join(delta.x for delta in grown if delta.kind == "signature")
    return part.model_copy(update={"signature": signature}) if signature else part


def _kind(grown: list[StepDelta]) -> PartKind:
    kinds = {delta.kind for delta in grown}
    if "redacted" in kinds:
        return "redacted"
    return "text" if "text" in kinds else "reasoning"
