from collections.abc import Callable

import pytest

from app.providers import Delta, ModelError, Reply
from app.providers.catalogue import ProviderSettings
from app.providers.vendors import AnthropicProvider
from tests.app.test_providers import GUARD_S, KEY, always, asking, outcome, provider_at
from tests.vendor import Block, Json, Script, Vendor

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def failure_with(script: Callable[[Json], Script], timeout_s: float = GUARD_S) -> ModelError:
    async with Vendor(script) as vendor:
        provider = provider_at(vendor, timeout_s)
        with pytest.raises(ModelError) as failed:
            await outcome(provider.complete(asking("hello")))
        await provider.close()
        assert len(vendor.requests) == 1, "a failed call was made again"
    return failed.value


@pytest.mark.parametrize(
    ("script", "error_type"),
    [
        (Script(status=400), "llm_bad_request"),
        (Script(status=401), "llm_authentication"),
        (Script(status=402), "llm_insufficient_credits"),
        (Script(status=403), "llm_authentication"),
        (Script(status=404), "llm_bad_request"),
        (Script(status=413), "llm_bad_request"),
        (Script(status=422), "llm_bad_request"),
        (Script(status=429), "llm_rate_limit"),
        (Script(status=500), "llm_error"),
        (Script(status=503), "llm_error"),
        (Script(status=529), "llm_error"),
    ],
)
async def test_a_status_becomes_a_kind_of_error(script: Script, error_type: str) -> None:
    failed = await failure_with(lambda _body: script)
    assert failed.error_type == error_type
    assert failed.status == script.status
    assert "told to fail" in (failed.detail or "")


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 250000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000",
    ],
)
async def test_a_prompt_that_is_too_long_is_an_overflow(message: str) -> None:
    failed = await failure_with(lambda _body: Script(status=400, message=message))
    assert failed.error_type == "context_window_overflow"


async def test_spent_credit_is_told_from_a_bad_request() -> None:
    message = "Your credit balance is too low to access the Anthropic API."
    failed = await failure_with(lambda _body: Script(status=400, message=message))
    assert failed.error_type == "llm_insufficient_credits"


async def test_a_rate_limit_says_when_to_come_back() -> None:
    failed = await failure_with(lambda _body: Script(status=429, headers={"retry-after": "7"}))
    assert failed.retry_after_s == 7


SAID = Block("text", ("some ", "words ", "more"))


@pytest.mark.parametrize("fault", ["drop", "cut", "garbage"])
@pytest.mark.parametrize("after", [0, 2])
async def test_a_stream_that_breaks_off_is_incomplete(fault: str, after: int) -> None:
    failed = await failure_with(always(SAID, fault=fault, fault_after=after))
    assert failed.error_type == "stream_incomplete"


async def test_what_arrived_before_a_break_was_given_out() -> None:
    async with Vendor(always(SAID, fault="drop", fault_after=2)) as vendor:
        provider = provider_at(vendor)
        seen: list[Delta | Reply] = []

        async def read() -> None:
            async for item in provider.complete(asking("hello")):
                seen.append(item)

        with pytest.raises(ModelError):
            await read()
        await provider.close()
    assert seen == [Delta(0, "text", "some "), Delta(0, "text", "words ")]


async def test_an_overload_in_mid_stream_is_the_vendors_error() -> None:
    failed = await failure_with(always(SAID, fault="error", error_type="overloaded_error"))
    assert failed.error_type == "llm_error"


async def test_a_silent_vendor_times_out() -> None:
    failed = await failure_with(always(SAID, fault="silence", fault_after=1), timeout_s=0.2)
    assert failed.error_type == "llm_timeout"


async def test_a_vendor_that_is_not_there_is_an_error() -> None:
    async with Vendor() as vendor:
        gone = vendor.base_url
    provider = AnthropicProvider(KEY, gone)
    with pytest.raises(ModelError) as failed:
        await outcome(provider.complete(asking("hello")))
    await provider.close()
    assert failed.value.error_type == "llm_error"


@pytest.mark.parametrize("blocks", [(), (Block("text"),)])
async def test_a_reply_without_content_is_an_error(blocks: tuple[Block, ...]) -> None:
    failed = await failure_with(always(*blocks))
    assert failed.error_type == "llm_empty_response"


async def test_the_key_is_in_no_error() -> None:
    failed = await failure_with(lambda _body: Script(status=401, message=f"bad key {KEY}"))
    assert KEY not in f"{failed!r} {failed.message} {failed.detail}"
    assert "bad key [key]" in (failed.detail or "")
    assert failed.__cause__ is None
    assert KEY not in repr(ProviderSettings(anthropic_api_key=KEY))
