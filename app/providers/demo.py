"""The model in the box: no key, no network, the same reply to the same request, plainly labelled.

Asked for a summary, in whatever words, it picks sentences; it knows by our fixed words around them.
Asked to consolidate memory, which it knows by the tools, it notes what the user said.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Final

from app.providers import Delta, DeltaKind, ModelCard, ModelError, Reply, Usage, Wire
from app.providers.consolidating import calls_of, consolidates
from app.providers.extracting import LABEL, summary_of
from domain.content import OutputPart, Reasoning, Text, ToolCall, ToolResult, text_of
from projections.prompts import (
    WORDS_OF_A_PREFIX,
    shown_transcript,
    turns_summarised,
    words_asked,
)
from projections.transcript import Entry, entries_of
from projections.turns import ModelRequest, Turn, TurnPart

CONTEXT_WINDOW: Final = 128_000
MAX_OUTPUT_TOKENS: Final = 4096
BAD_REQUEST: Final = 400
BYTES_PER_TOKEN: Final = 4
QUOTE_CHARACTERS_MAX: Final = 200
WORDS_PER_BREATH: Final = 4  # without a delay, the loop gets its turn once per so many words

_WORDS = re.compile(r"\S+\s*")
_CALL = re.compile(r"\bcall ([\w-]+)\s*")
_DISPLAY_NAMES: Final = {"echo": "Demo: at once", "steady": "Demo: a word at a time"}
DEMO_MODELS: Final = frozenset(_DISPLAY_NAMES)


class DemoProvider:
    """`demo/echo` answers at once, `demo/steady` one word each `word_delay_s`, to be watched."""

    def __init__(
        self, word_delay_s: float = 0.03, context_windows: Mapping[str, int] | None = None
    ) -> None:
        self._delays_s = {"echo": 0.0, "steady": word_delay_s}
        self._context_windows = context_windows or {}

    async def complete(self, request: ModelRequest) -> AsyncGenerator[Delta | Reply, None]:
        """Stream the demo's reply; one that was asked to think thinks first."""
        delay_s = self._delay_of(request.model)
        if _asks_for_summary(request):
            # Counting a long conversation's words takes a moment, in which others have theirs.
            reply = await asyncio.to_thread(reply_to, request)
        else:
            reply = reply_to(request)
        self._check_size(request.model, reply.usage.input_tokens)
        breath = 1 if delay_s else WORDS_PER_BREATH
        for count, delta in enumerate(_deltas_of(reply)):
            if count % breath == 0:
                await asyncio.sleep(delay_s)
            yield delta
        yield reply

    def _delay_of(self, model: str) -> float:
        try:
            return self._delays_s[model]
        except KeyError:
            known = ", ".join(f"demo/{name}" for name in self._delays_s)
            raise ModelError(
                "llm_bad_request", f"There is no demo model {model!r}; there are {known}."
            ) from None

    def _check_size(self, model: str, tokens: int) -> None:
        """Refuse what does not fit, as vendors do."""
        most = self._context_windows.get(f"demo/{model}", CONTEXT_WINDOW)
        if tokens > most:
            raise ModelError(
                "context_window_overflow",
                "The request does not fit into the model's context window.",
                detail=f"prompt is too long: {tokens} tokens > {most} maximum",
                status=BAD_REQUEST,
            )

    async def models(self) -> tuple[ModelCard, ...]:
        """List the two demo models."""
        return tuple(_card_of(name) for name in self._delays_s)

    async def wire_of(self, request: ModelRequest) -> Wire | None:  # noqa: ARG002 - as others
        """Give nothing: no server receives anything."""
        return None

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """Count exactly what the demo's reply to the request will report."""
        return input_tokens_of(request)

    async def close(self) -> None:
        """Do nothing: the demo holds no connection."""


def reply_to(request: ModelRequest) -> Reply:
    """Answer a request: a pure function of it, so that a reply taken again is the same reply."""
    summary = _summary(request)
    if summary is not None:
        return _reply(request, (), (Text(text=summary),))
    if consolidates(request):
        return _reply(request, (), calls_of(request))
    said = _last_words_of_user(request.turns)
    calls = _calls(said, request)
    thought = (Reasoning(text=_thought(said)),) if "think" in said.lower() else ()
    return _reply(request, thought, calls or (Text(text=_answer(said, request)),))


def _reply(
    request: ModelRequest, thought: tuple[Reasoning, ...], spoken: tuple[OutputPart, ...]
) -> Reply:
    reasoning_tokens = _tokens_of(*(part.text for part in thought))
    usage = Usage(
        input_tokens=input_tokens_of(request),
        output_tokens=reasoning_tokens + _tokens_of(*map(_text_of, spoken)),
        cached_input_tokens=0,
        cache_write_tokens=0,
        reasoning_tokens=reasoning_tokens,
    )
    called = any(isinstance(part, ToolCall) for part in spoken)
    return Reply((*thought, *spoken), usage, "tool_call" if called else "stop")


def input_tokens_of(request: ModelRequest) -> int:
    """Count a request's tokens as the demo's usage reports them."""
    return _tokens_of(request.system, *_texts_of(request.turns))


# --- a summary --------------------------------------------------------------------------------


def _asks_for_summary(request: ModelRequest) -> bool:
    turns = request.turns
    return shown_transcript(turns) is not None or turns_summarised(turns) is not None


def _summary(request: ModelRequest) -> str | None:
    """Summarise the transcript or the conversation in a request, None if that is not asked for."""
    transcript = shown_transcript(request.turns)
    turns = turns_summarised(request.turns)
    if transcript is not None:
        entries, prompt = entries_of(transcript), request.system
    elif turns is not None:
        entries, prompt = list(_entries(turns)), _last_words_of_user(request.turns)
    else:
        return None
    return summary_of(entries, words_asked(prompt) or WORDS_OF_A_PREFIX)


def _entries(turns: tuple[Turn, ...]) -> Iterator[Entry]:
    for turn in turns:
        for part in turn.parts:
            match part:
                case Text():
                    yield Entry(turn.role, part.text)
                case ToolCall():
                    yield Entry(f"{turn.role} calls {part.name}", part.arguments)
                case ToolResult():
                    yield Entry("tool returns", text_of(part.content))
                case _:
                    pass


# --- an answer --------------------------------------------------------------------------------


def _calls(said: str, request: ModelRequest) -> tuple[ToolCall, ...]:
    """Call the tools that the user asked for by name, once: `call weather {"city": "Ulm"}`."""
    offered = {tool.name for tool in request.tools}
    if _results(request.turns):
        return ()
    asked = [found for found in _CALL.finditer(said) if found[1] in offered]
    return tuple(
        ToolCall(
            id=f"demo-{len(request.turns)}-{number}",
            name=found[1],
            arguments=_arguments(said[found.end() :]),
        )
        for number, found in enumerate(asked)
    )


def _arguments(text: str) -> str:
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return "{}"
    return text[:end]


def _results(turns: tuple[Turn, ...]) -> list[ToolResult]:
    """Give what tools returned since the user last spoke."""
    last = turns[-1].parts if turns else ()
    return [part for part in last if isinstance(part, ToolResult)]


def _answer(said: str, request: ModelRequest) -> str:
    quote = f"Your last words were “{_shortened(said)}”." if said else "You said nothing in words."
    results = "".join(
        f" A tool returned “{_shortened(text_of(one.content))}”." for one in _results(request.turns)
    )
    return (
        f"{LABEL}{quote}{results} I was given {_counted(len(request.turns), 'turn')} and "
        f"{_counted(len(request.system), 'character')} of system prompt and memory. "
        "I understand none of it: my reply is computed from the request alone, so the same request "
        "gives the same words. Stop me in mid-sentence, restart the server, or read along from two "
        "places, and compare what each of you has seen. Set a key and a model for real answers."
    )


def _thought(said: str) -> str:
    return f"{LABEL}I was asked to think. There are {_counted(len(said.split()), 'word')} to quote."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _shortened(said: str) -> str:
    if len(said) <= QUOTE_CHARACTERS_MAX:
        return said
    return said[:QUOTE_CHARACTERS_MAX] + "…"


def _last_words_of_user(turns: tuple[Turn, ...]) -> str:
    for turn in reversed(turns):
        words = "".join(part.text for part in turn.parts if isinstance(part, Text))
        if turn.role == "user" and words:
            return words
    return ""


def _texts_of(turns: tuple[Turn, ...]) -> Iterator[str]:
    for turn in turns:
        for part in turn.parts:
            yield _text_of(part)


def _text_of(part: TurnPart) -> str:
    match part:
        case Text() | Reasoning():
            return part.text
        case ToolCall():
            return part.name + part.arguments
        case ToolResult():
            return text_of(part.content)
        case _:
            return ""


def _tokens_of(*texts: str) -> int:
    return -(-sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN)


def _deltas_of(reply: Reply) -> Iterator[Delta]:
    for index, part in enumerate(reply.parts):
        if isinstance(part, Text | Reasoning):
            kind: DeltaKind = "text" if isinstance(part, Text) else "reasoning"
            for word in _WORDS.findall(part.text):
                yield Delta(index, kind, word)
        elif isinstance(part, ToolCall):
            yield Delta(index, "arguments", part.arguments, part.id, part.name)


def _card_of(name: str) -> ModelCard:
    return ModelCard(
        handle=f"demo/{name}",
        name=name,
        display_name=_DISPLAY_NAMES[name],
        provider_type="demo",
        context_window=CONTEXT_WINDOW,
        max_output_tokens=MAX_OUTPUT_TOKENS,
    )
