import asyncio

import pytest

from app.providers import ModelError
from app.providers.demo import CONTEXT_WINDOW, LABEL, DemoProvider, reply_to
from app.providers.extracting import SUMMARY_LABEL
from domain.content import Text, ToolCall, ToolResult, ToolSchema
from projections.prompts import BEFORE_TRANSCRIPT, CLOSING, PROMPTS, self_turns, transcript_turns
from projections.transcript import fenced
from projections.turns import ModelRequest, Turn
from tests.app.test_providers import (
    asking,
    assistant,
    outcome,
    user,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("model", ["echo", "steady"])
async def test_the_demo_says_that_it_is_a_demo_and_quotes_its_user(model: str) -> None:
    request = asking("what is 2 + 2?", model=model, system="You are kind.")
    _, reply = await outcome(DemoProvider(word_delay_s=0.0001).complete(request))
    (text,) = reply.parts
    assert isinstance(text, Text)
    assert text.text.startswith(LABEL)
    assert "what is 2 + 2?" in text.text
    assert "1 turn and 13 characters" in text.text
    assert len(text.text.split()) >= 60


async def test_the_demo_gives_one_delta_a_word() -> None:
    deltas, reply = await outcome(DemoProvider().complete(asking("hello", model="echo")))
    (text,) = reply.parts
    assert isinstance(text, Text)
    assert [delta.text.strip() for delta in deltas] == text.text.split()


async def test_the_demo_thinks_first_when_asked_to() -> None:
    deltas, reply = await outcome(DemoProvider().complete(asking("Think, please", model="echo")))
    assert [part.type for part in reply.parts] == ["reasoning", "text"]
    assert {delta.kind for delta in deltas if delta.index == 0} == {"reasoning"}
    assert reply.usage.reasoning_tokens


def test_the_demo_replies_the_same_to_the_same_request() -> None:
    request = asking("Grüße, 世界 🌍", model="echo")
    assert reply_to(request) == reply_to(request)
    assert reply_to(request) != reply_to(asking("hello", model="echo"))


async def test_the_demo_lets_others_run_between_its_words() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    deltas, _ = await outcome(DemoProvider().complete(asking("hello", model="echo")))
    counting.cancel()
    assert turns >= len(deltas) // 4


async def test_a_demo_model_that_does_not_exist_is_a_bad_request() -> None:
    with pytest.raises(ModelError, match="demo/echo") as refused:
        await outcome(DemoProvider().complete(asking("hello", model="gpt")))
    assert refused.value.error_type == "llm_bad_request"


# --- summaries --------------------------------------------------------------------------------

TRANSCRIPT = (
    "user:\n  I live in Ulm.\n  call weather {}\nassistant:\n  Think: it has 126,000 people."
)
SENTENCES = """\
- user: I live in Ulm.
- user: call weather {}
- assistant: Think: it has 126,000 people."""
TALK = (
    user(Text(text="I live in Ulm.")),
    assistant(Text(text="Let me see."), ToolCall(id="c", name="weather", arguments='{"n": 1}')),
    user(ToolResult(tool_call_id="c", content="22 °C")),
)
TALK_PICKED = """\
- user: I live in Ulm.
- assistant: Let me see.
- assistant calls weather: {"n": 1}
- tool returns: 22 °C"""
WEATHER = ToolSchema(name="weather")


def words_of(request: ModelRequest) -> str:
    reply = reply_to(request)
    (text,) = reply.parts
    assert isinstance(text, Text)
    assert reply.finish_reason == "stop"
    return text.text


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("prompt", [*PROMPTS.values(), "Sum it up.", ""])
def test_a_transcript_is_summarised_whoever_wrote_the_prompt(
    prompt: str, acknowledged: bool
) -> None:
    turns = transcript_turns(TRANSCRIPT, acknowledged=acknowledged)
    assert words_of(asking(*turns, system=prompt)) == f"{SUMMARY_LABEL}\n{SENTENCES}"


@pytest.mark.parametrize("prompt", [*PROMPTS.values(), "Think, and call weather {}."])
def test_a_conversation_is_summarised_whoever_wrote_the_prompt(prompt: str) -> None:
    request = asking(*self_turns(TALK, prompt), system="Be kind.", tools=(WEATHER,))
    assert words_of(request) == f"{SUMMARY_LABEL}\n{TALK_PICKED}"


def test_a_summary_is_as_long_as_its_prompt_asks_for() -> None:
    said = "\n".join(f"user:\n  Number {n} is as good a number as any." for n in range(200))
    lengths = [
        len(words_of(asking(*transcript_turns(said, acknowledged=False), system=prompt)).split())
        for prompt in ("In about 60 words.", PROMPTS["sliding_window"], PROMPTS["all"])
    ]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize(
    "turns",
    [
        (f"Please read {fenced('user:')}",),
        (BEFORE_TRANSCRIPT,),
        (f"{CLOSING} But not now.",),
        (f"Sum it up.\n\n{CLOSING}", assistant(Text(text="No."))),
    ],
)
def test_what_asks_for_no_summary_gets_none(turns: tuple[Turn | str, ...]) -> None:
    assert SUMMARY_LABEL not in words_of(asking(*turns))


async def test_a_summary_is_counted_as_any_reply_is() -> None:
    request = asking(*transcript_turns("user:\n  Hello.", acknowledged=False), model="echo")
    (part,) = request.turns[0].parts
    assert isinstance(part, Text)
    _, reply = await outcome(DemoProvider().complete(request))
    (text,) = reply.parts
    assert isinstance(text, Text)
    assert reply.usage.input_tokens == -(-len(part.text.encode()) // 4)
    assert reply.usage.output_tokens == -(-len(text.text.encode()) // 4)
    assert not reply.usage.reasoning_tokens


# --- too much ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["echo", "steady"])
async def test_a_request_that_does_not_fit_is_refused_as_vendors_do(model: str) -> None:
    demo = DemoProvider(0, {f"demo/{model}": 10})
    fits, larger = asking("x" * 40, model=model), asking("x" * 41, model=model)
    _, reply = await outcome(demo.complete(fits))
    assert reply.usage.input_tokens == 10
    with pytest.raises(ModelError) as refused:
        await outcome(demo.complete(larger))
    assert (refused.value.error_type, refused.value.status) == ("context_window_overflow", 400)
    assert refused.value.detail == "prompt is too long: 11 tokens > 10 maximum"


async def test_a_demo_model_has_a_window_if_nobody_sets_one() -> None:
    demo = DemoProvider(0, {"demo/steady": 1})
    with pytest.raises(ModelError, match="context window"):
        await outcome(demo.complete(asking("x" * (4 * CONTEXT_WINDOW + 1), model="echo")))
    _, reply = await outcome(demo.complete(asking("x" * 4 * CONTEXT_WINDOW, model="echo")))
    assert reply.usage.input_tokens == CONTEXT_WINDOW
