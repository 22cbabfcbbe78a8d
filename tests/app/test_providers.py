import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from app.providers import Delta, Reply
from app.providers.vendors import AnthropicProvider
from domain.content import (
    Image,
    OutputPart,
    Reasoning,
    Redacted,
    Text,
    ToolCall,
    ToolResult,
    ToolSchema,
)
from projections.turns import ModelRequest, Turn
from tests.vendor import Block, Json, Script, Vendor, words

pytestmark = pytest.mark.anyio

KEY = "sk-ant-a-key-that-nobody-may-see"
GUARD_S = 30.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def asking(
    *turns: Turn | str,
    model: str = "claude-haiku-4-5",
    system: str = "",
    tools: tuple[ToolSchema, ...] = (),
    **settings: Any,
) -> ModelRequest:
    said = tuple(user(Text(text=turn)) if isinstance(turn, str) else turn for turn in turns)
    return ModelRequest(
        provider="anthropic", model=model, system=system, turns=said, tools=tools, settings=settings
    )


def user(*parts: Text | Image | ToolResult) -> Turn:
    return Turn(role="user", parts=parts)


def assistant(*parts: OutputPart) -> Turn:
    return Turn(role="assistant", parts=parts)


def always(*blocks: Block, **more: Any) -> Callable[[Json], Script]:
    return lambda _body: Script(blocks=blocks, **more)


def provider_at(vendor: Vendor, timeout_s: float = GUARD_S) -> AnthropicProvider:
    return AnthropicProvider(KEY, vendor.base_url, timeout_s=timeout_s)


async def outcome(stream: AsyncIterator[Delta | Reply]) -> tuple[list[Delta], Reply]:
    deltas: list[Delta] = []
    replies: list[Reply] = []
    async for item in stream:
        assert not replies, "something came after the reply"
        if isinstance(item, Reply):
            replies.append(item)
        else:
            deltas.append(item)
    assert len(replies) == 1
    assert_joined(deltas, replies[0])
    return deltas, replies[0]


def assert_joined(deltas: list[Delta], reply: Reply) -> None:
    def joined(index: int, kind: str) -> str:
        return "".join(d.text for d in deltas if d.index == index and d.kind == kind)

    assert {delta.index for delta in deltas} == set(range(len(reply.parts)))
    for index, part in enumerate(reply.parts):
        match part:
            case Text():
                assert joined(index, "text") == part.text
            case Reasoning():
                assert joined(index, "reasoning") == part.text
                assert (joined(index, "signature") or None) == part.signature
            case Redacted():
                assert joined(index, "redacted") == part.data
            case ToolCall():
                assert joined(index, "arguments") == part.arguments


async def reply_of(script: Callable[[Json], Script], request: ModelRequest) -> Reply:
    async with Vendor(script) as vendor:
        provider = provider_at(vendor)
        try:
            _, reply = await outcome(provider.complete(request))
        finally:
            await provider.close()
    return reply


async def test_text_arrives_as_it_is_streamed() -> None:
    async with Vendor() as vendor:
        provider = provider_at(vendor)
        deltas, reply = await outcome(provider.complete(asking("[[text:one two three]]")))
        await provider.close()
    assert [delta.text for delta in deltas] == ["one ", "two ", "three"]
    assert reply.parts == (Text(text="one two three"),)
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("seed", range(20))
async def test_deltas_joined_are_the_part_whatever_the_split(seed: int) -> None:
    chance = random.Random(seed)
    alphabet = [
        "a",
        " ",
        "\n",
        "é",
        "世",
        "🌍",
        "\u200d",
        "\u2028",
        '"',
        "\\",
        "<|im_start|>",
        "\0",
    ]
    text, thought = ("".join(chance.choices(alphabet, k=60)) for _ in range(2))
    arguments = json.dumps({"text": text}, ensure_ascii=chance.random() < 0.5)
    script = always(
        Block("thinking", split(thought, chance), signature="signed"),
        Block("text", split(text, chance)),
        Block("tool_use", split(arguments, chance), name="say"),
    )
    reply = await reply_of(script, asking("go"))
    assert reply.parts == (
        Reasoning(text=thought, signature="signed"),
        Text(text=text),
        ToolCall(id="toolu_1", name="say", arguments=arguments),
    )


def split(text: str, chance: random.Random) -> tuple[str, ...]:
    cuts = sorted(chance.sample(range(1, len(text)), k=min(12, len(text) - 1)))
    return tuple(text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True))


async def test_reasoning_keeps_its_signature_and_redacted_reasoning_its_data() -> None:
    request = asking("[[think:let me see]] [[hide:c2VjcmV0]] [[text:done]]")
    async with Vendor() as vendor:
        provider = provider_at(vendor)
        _, reply = await outcome(provider.complete(request))
        await provider.close()
    assert reply.parts == (
        Reasoning(text="let me see", signature="signed-by-the-vendor"),
        Redacted(data="c2VjcmV0"),
        Text(text="done"),
    )


async def test_reasoning_of_which_only_the_signature_is_shown_is_kept() -> None:
    reply = await reply_of(
        always(Block("thinking", signature="signed"), Block("text", ("done",))), asking("go")
    )
    assert reply.parts == (Reasoning(text="", signature="signed"), Text(text="done"))


async def test_a_tool_call_is_named_in_its_first_delta() -> None:
    script = always(
        Block("tool_use", ('{"city":', ' "Rīga"}'), call_id="toolu_a", name="weather"),
        Block("tool_use", ("{}",), call_id="toolu_b", name="clock"),
    )
    async with Vendor(script) as vendor:
        provider = provider_at(vendor)
        deltas, reply = await outcome(provider.complete(asking("go")))
        await provider.close()
    assert deltas[0] == Delta(0, "arguments", "", "toolu_a", "weather")
    assert all(delta.call_id is None for delta in deltas if delta.text)
    assert reply.parts == (
        ToolCall(id="toolu_a", name="weather", arguments='{"city": "Rīga"}'),
        ToolCall(id="toolu_b", name="clock", arguments="{}"),
    )
    assert reply.finish_reason == "tool_call"


async def test_a_tool_call_without_arguments_has_an_empty_object() -> None:
    reply = await reply_of(
        always(Block("tool_use", name="clock"), Block("text", ("now",))), asking("go")
    )
    assert reply.parts == (
        ToolCall(id="toolu_1", name="clock", arguments="{}"),
        Text(text="now"),
    )


async def test_blocks_without_content_leave_no_gap() -> None:
    reply = await reply_of(
        always(Block("text"), Block("thinking"), Block("text", ("here",))), asking("go")
    )
    assert reply.parts == (Text(text="here"),)


async def test_usage_counts_the_whole_prompt_and_tells_what_was_cached() -> None:
    reply = await reply_of(always(Block("text", ("a", "b"))), asking("go"))
    assert reply.usage.input_tokens == 10 + 5 + 3
    assert reply.usage.cached_input_tokens == 5
    assert reply.usage.cache_write_tokens == 3
    assert reply.usage.output_tokens == 2
    assert reply.usage.reasoning_tokens is None


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_call"),
        ("refusal", "content_filter"),
        ("a reason of the future", "stop"),
    ],
)
async def test_the_stop_reason_becomes_a_finish_reason(
    stop_reason: str, finish_reason: str
) -> None:
    script = always(Block("text", ("ok",)), stop_reason=stop_reason)
    reply = await reply_of(script, asking("go"))
    assert reply.finish_reason == finish_reason


ENDLESS = "[[words:100000]] [[delay:5]]"


async def test_cancelling_the_reader_closes_the_socket() -> None:
    async with Vendor() as vendor:
        provider = provider_at(vendor)
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in provider.complete(asking(ENDLESS)):
                begun.set()

        reading = asyncio.create_task(read())
        async with asyncio.timeout(GUARD_S):
            await begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await vendor.until(lambda it: it.aborted == 1 and it.connections == 0)
        await provider.close()


async def test_cancelling_before_the_first_word_closes_the_socket() -> None:
    async with Vendor() as vendor:
        provider = provider_at(vendor)
        reading = asyncio.create_task(outcome(provider.complete(asking("[[silence:0]]"))))
        await vendor.until(lambda it: len(it.requests) == 1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await vendor.until(lambda it: it.aborted == 1 and it.connections == 0)
        await provider.close()


async def test_closing_the_stream_closes_the_socket() -> None:
    async with Vendor() as vendor:
        provider = provider_at(vendor)
        async with aclosing(provider.complete(asking(ENDLESS))) as stream:
            assert isinstance(await anext(stream), Delta)
        await vendor.until(lambda it: it.aborted == 1 and it.connections == 0)
        await provider.close()


async def test_a_finished_reply_leaves_its_connection_to_the_next() -> None:
    async with Vendor() as vendor:
        provider = provider_at(vendor)
        for _ in range(3):
            await outcome(provider.complete(asking("hello")))
            assert vendor.connections == 1
        assert vendor.aborted == 0
        await provider.close()


async def test_many_first_calls_share_one_client() -> None:
    async with Vendor() as vendor:
        provider = provider_at(vendor)
        replies = await asyncio.gather(
            *(outcome(provider.complete(asking(f"[[text:number {n}]]"))) for n in range(20))
        )
        await provider.close()
        await vendor.until(lambda it: it.connections == 0)
    assert [reply.parts for _, reply in replies] == [(Text(text=f"number {n}"),) for n in range(20)]


def test_words_joined_are_the_text() -> None:
    text = "  one two\n three "
    assert "".join(words(text)) == text


def test_the_vendor_runs_as_a_process() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.vendor", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        process.terminate()
