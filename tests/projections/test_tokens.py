from hypothesis import given
from hypothesis import strategies as st

from domain.content import (
    Base64Source,
    Image,
    Reasoning,
    Redacted,
    Text,
    ToolCall,
    ToolResult,
    ToolSchema,
    UrlSource,
)
from projections.tokens import IMAGE_TOKENS, estimate, tokens_of_request
from projections.turns import ModelRequest, Turn, TurnPart

TEXTS = st.text(max_size=20)
LARGE = Image(source=Base64Source(media_type="image/png", data="A" * 400_000))
LINKED = Image(source=UrlSource(url="https://pictures.example/a.png"))


def asked(*parts: TurnPart, system: str = "", tools: tuple[ToolSchema, ...] = ()) -> ModelRequest:
    turns = (Turn(role="user", parts=parts),) if parts else ()
    return ModelRequest(provider="demo", model="echo", system=system, turns=turns, tools=tools)


def test_an_estimate_is_a_third_of_the_bytes_or_so() -> None:
    assert estimate("") == 0
    assert estimate("four" * 1000) == 1300
    assert estimate("世" * 4000) == 3900


@given(TEXTS, TEXTS, TEXTS)
def test_a_request_has_the_tokens_of_its_system_prompt_and_its_texts_together(
    system: str, said: str, thought: str
) -> None:
    request = asked(Text(text=said), Reasoning(text=thought), system=system)
    assert tokens_of_request(request) == estimate(system + said + thought)


def test_calls_and_returns_and_hidden_reasoning_are_counted() -> None:
    call = ToolCall(id="t1", name="look", arguments='{"at": "it"}')
    result = ToolResult(tool_call_id="t1", content="It is a cat.")
    request = asked(call, result, Redacted(data="c2VjcmV0"))
    assert tokens_of_request(request) == estimate('look{"at": "it"}It is a cat.c2VjcmV0')


def test_tools_are_counted_as_their_json() -> None:
    tool = ToolSchema(name="look", parameters={"type": "object"})
    spelled = '{"name":"look","parameters":{"type":"object"}}'
    assert tokens_of_request(asked(tools=(tool, tool))) == estimate(spelled * 2)


def test_a_picture_costs_the_same_however_it_is_sent_and_wherever_it_is() -> None:
    returned = ToolResult(tool_call_id="t1", content=(Text(text="see"), LINKED))
    assert tokens_of_request(asked(LARGE)) == IMAGE_TOKENS
    assert tokens_of_request(asked(LINKED, LARGE)) == 2 * IMAGE_TOKENS
    assert tokens_of_request(asked(returned)) == IMAGE_TOKENS + estimate("see")
