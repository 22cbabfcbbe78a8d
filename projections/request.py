"""The exact request of a step: rendered from a window, named by its hash."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from xml.sax.saxutils import escape, quoteattr

import orjson

from domain.content import Text, ToolResult, ToolSchema
from domain.run import RunClaimed, RunRequest
from projections.items import (
    Item,
    MessageItem,
    ReturnItem,
    StepItem,
    SummaryItem,
    result_of,
    spoken,
)
from projections.summary import packed
from projections.turns import ModelRequest, Turn, TurnPart
from projections.window import Window

# Written into every manifest: a change to rendering takes the next number and keeps this one.
RENDERER: Final = "1"
INTERRUPTED: Final = "[This reply was interrupted here.]"
RETURN_CHARS_MIN: Final = 5000
RETURN_SHARE: Final = 0.2
CHARS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools that a step offers, and the names of those that wait for the client.

    `tools_at` is the offset of the fact that lists the client's.
    """

    tools: tuple[ToolSchema, ...]
    gated: tuple[str, ...]
    tools_at: int | None


def offer_of(own: tuple[ToolSchema, ...], claimed: RunClaimed, tools_at: int | None) -> Offer:
    """Gather the tools: the client's own, which hide the server's of the same name, then those."""
    names = {tool.name for tool in own}
    ours = [tool for tool in claimed.tools if tool.name not in names]
    schemas = (
        ToolSchema(name=tool.name, description=tool.description, parameters=tool.parameters)
        for tool in ours
    )
    names_gated = (*(tool.name for tool in own), *(tool.name for tool in ours if tool.gated))
    return Offer((*own, *schemas), names_gated, tools_at)


def request_of(
    window: Window, handle: str, asked: RunRequest, claimed: RunClaimed, offer: Offer
) -> ModelRequest:
    """Render what the model behind a handle, `provider/model`, is told in a run.

    The same arguments give the same request, at the step and whenever it is rebuilt.
    """
    provider, _, model = handle.partition("/")
    stored = "" if window.system is None else window.system.system.text
    return ModelRequest(
        provider=provider,
        model=model,
        system=system_of(asked.overrides.system or stored, asked.skills),
        turns=turns_of(window, return_chars_max(claimed.context_window)),
        tools=offer.tools,
        settings=claimed.settings,
    )


def turns_of(window: Window, return_chars_max: int = RETURN_CHARS_MIN) -> tuple[Turn, ...]:
    """Render a window's items as turns; neighbours of one role are one turn.

    What a tool returned is cut at `return_chars_max` characters: one return must not fill a window.
    """
    return turns_from(window.items, return_chars_max)


def turns_from(items: Iterable[Item], return_chars_max: int = RETURN_CHARS_MIN) -> tuple[Turn, ...]:
    """Render items as turns: those of a window's beginning are the beginning of its turns."""
    turns: list[Turn] = []
    for item in items:
        role, parts = _said(item, return_chars_max)
        if not parts:
            continue
        if turns and turns[-1].role == role:
            parts = (*turns.pop().parts, *parts)
        turns.append(Turn(role=role, parts=parts))
    return tuple(turns)


def return_chars_max(context_window: int) -> int:
    """Tell how much of a tool's return a model is shown (contract section 4.1)."""
    return max(RETURN_CHARS_MIN, int(RETURN_SHARE * context_window * CHARS_PER_TOKEN))


def _said(item: Item, chars_max: int) -> tuple[Literal["user", "assistant"], tuple[TurnPart, ...]]:
    if isinstance(item, StepItem):
        return "assistant", tuple(_replied(item))
    if isinstance(item, ReturnItem):
        return "user", (_cut(result_of(item), chars_max),)
    if isinstance(item, SummaryItem):
        return "user", (Text(text=packed(item)),)
    if item.role == "system":
        return "user", _as_notice(item)
    return item.role, item.parts


def _cut(result: ToolResult, chars_max: int) -> ToolResult:
    words = result.content
    if not isinstance(words, str) or len(words) <= chars_max:
        return result
    note = f"[Cut here: {chars_max} of {len(words)} characters are shown.]"
    return result.model_copy(update={"content": f"{words[:chars_max]}\n{note}"})


def _as_notice(item: MessageItem) -> tuple[TurnPart, ...]:
    """Say a system message in the user's turn: most vendors know only one, at the top."""
    words = "".join(part.text for part in item.parts if isinstance(part, Text))
    return (Text(text=f"<system_message>{escape(words)}</system_message>"),)


def _replied(item: StepItem) -> Iterable[TurnPart]:
    """Give a reply's parts; of an interrupted one only its words, and that it was cut off."""
    if not item.interrupted:
        yield from map(spoken, item.parts)
        return
    for part in item.parts:
        if part.kind == "text":
            yield spoken(part)
    yield Text(text=INTERRUPTED)


def system_of(text: str, skills: Sequence[dict[str, Any]]) -> str:
    """Give the system prompt of one request: skills are shown in it and never stored in it."""
    if not skills:
        return text
    rows = "\n".join(
        f"<skill name={quoteattr(str(one.get('name', '')))} "
        f"location={quoteattr(str(one.get('location', '')))}>"
        f"{escape(str(one.get('description', '')))}</skill>"
        for one in skills
    )
    return f"{text}\n\n<available_skills>\n{rows}\n</available_skills>"


def canonical(request: ModelRequest) -> bytes:
    """Give a request's one spelling: JSON with sorted keys and no spaces."""
    return orjson.dumps(
        request.model_dump(mode="json", exclude_none=True), option=orjson.OPT_SORT_KEYS
    )


def sha256_of(request: ModelRequest) -> str:
    """Name a request by its canonical spelling."""
    return hashlib.sha256(canonical(request)).hexdigest()
