import asyncio

import pytest

from app.providers import ModelError
from app.providers.demo import LABEL, DemoProvider, reply_to
from domain.content import (
    Text,
)
from tests.app.test_providers import (
    asking,
    outcome,
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
