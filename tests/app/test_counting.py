"""Tokens as reported, as the vendor counts them through its real SDK, or as estimated."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from app.counting import DOUBT_SHARE, Counted, context_tokens
from app.providers.demo import DemoProvider
from app.providers.vendors import AnthropicProvider
from domain.content import Text, ToolCall, ToolResult, ToolSchema
from domain.run import CROWDED_SHARE
from projections.tokens import tokens_of_request
from projections.turns import ModelRequest
from tests.app.test_providers import KEY, asking, assistant, outcome, user
from tests.vendor import Count, Json, Script, Vendor

REQUEST = asking("word " * 2000, model="claude-haiku-4-5")
ESTIMATED = tokens_of_request(REQUEST)
# The estimate is just at this window's limit.
DOUBTFUL = round(ESTIMATED / CROWDED_SHARE)
COUNTED = 1234


def always(count: Count) -> Callable[[Json], Count]:
    return lambda _: count


@asynccontextmanager
async def counting(
    counts: Callable[[Json], Count], *, timeout_s: float = 30.0
) -> AsyncGenerator[tuple[AnthropicProvider, Vendor]]:
    async with asyncio.timeout(60), Vendor(counts=counts) as vendor:
        provider = AnthropicProvider(KEY, vendor.base_url, count_timeout_s=timeout_s)
        yield provider, vendor
        await provider.close()


async def test_the_vendor_counts_what_would_be_sent() -> None:
    look = ToolSchema(name="look", description="Looks.", parameters={"type": "object"})
    request = asking(
        user(Text(text="what is this?")),
        assistant(ToolCall(id="toolu_1", name="look", arguments="{}")),
        user(ToolResult(tool_call_id="toolu_1", content="a cat")),
        system="You look at things.",
        tools=(look,),
    )
    async with counting(always(COUNTED)) as (provider, vendor):
        assert await provider.count_tokens(request) == COUNTED
        await outcome(provider.complete(request))
        counted, sent = vendor.requests
    assert counted.path.startswith("/v1/messages/count_tokens")
    assert counted.headers["authorization"] == sent.headers["authorization"]
    for name in ("model", "system", "messages", "tools"):
        assert counted.body[name] == sent.body[name]


@pytest.mark.parametrize(
    "counts",
    [Script(status=500), Script(status=429), Script(status=401), Script(status=404)],
    ids=lambda script: str(script.status),
)
async def test_a_vendor_that_fails_has_not_counted(
    counts: Script, caplog: pytest.LogCaptureFixture
) -> None:
    async with counting(always(counts)) as (provider, vendor):
        with caplog.at_level(logging.WARNING):
            assert await provider.count_tokens(REQUEST) is None
        assert len(vendor.requests) == 1
    assert "Anthropic did not count tokens" in caplog.text
    assert KEY not in caplog.text


async def test_a_vendor_that_takes_too_long_is_let_go_of() -> None:
    async with counting(always("silence"), timeout_s=0.1) as (provider, vendor):
        assert await provider.count_tokens(REQUEST) is None
        await vendor.until(lambda it: it.connections == 0)
        assert len(vendor.requests) == 1


async def test_nobody_at_the_address_has_not_counted() -> None:
    provider = AnthropicProvider(KEY, "http://127.0.0.1:1")
    assert await provider.count_tokens(REQUEST) is None
    await provider.close()


async def test_a_request_that_cannot_be_sent_is_not_counted() -> None:
    async with counting(always(COUNTED)) as (provider, vendor):
        refused = asking("hello", verbosity="low")
        assert await provider.count_tokens(refused) is None
        assert vendor.requests == []


async def test_who_asks_may_stop_waiting() -> None:
    async with counting(always("silence")) as (provider, vendor):
        asked = asyncio.create_task(provider.count_tokens(REQUEST))
        await vendor.until(lambda it: len(it.requests) == 1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked


@pytest.mark.parametrize("said", ["hello", "think about it", 'call look {"at": "it"}'])
async def test_the_demo_counts_what_it_will_report(said: str) -> None:
    look = ToolSchema(name="look")
    request = asking(said, model="echo", system="You are kind. 世界", tools=(look,))
    demo = DemoProvider()
    _, reply = await outcome(demo.complete(request))
    assert await demo.count_tokens(request) == reply.usage.input_tokens > 0


# --- whose word is taken ----------------------------------------------------------------------


async def test_what_was_reported_wins() -> None:
    async with counting(always(COUNTED)) as (provider, vendor):
        counted = await context_tokens(provider, REQUEST, DOUBTFUL, 77)
        assert vendor.requests == []
    assert counted == Counted(77, "reported")


async def test_the_vendor_is_asked_where_the_estimate_is_in_doubt() -> None:
    async with counting(always(COUNTED)) as (provider, vendor):
        counted = await context_tokens(provider, REQUEST, DOUBTFUL, None)
        assert len(vendor.requests) == 1
    assert counted == Counted(COUNTED, "counted")


@pytest.mark.parametrize("window", [DOUBTFUL // 2, DOUBTFUL * 2], ids=["far over", "far under"])
async def test_an_estimate_far_from_the_limit_is_good_enough(window: int) -> None:
    async with counting(always(COUNTED)) as (provider, vendor):
        counted = await context_tokens(provider, REQUEST, window, None)
        assert vendor.requests == []
    assert counted == Counted(ESTIMATED, "estimated")


async def test_the_limit_may_be_another_share_of_the_window() -> None:
    async with counting(always(COUNTED)) as (provider, _):
        whole = await context_tokens(provider, REQUEST, ESTIMATED, None, full_share=1.0)
        half = await context_tokens(provider, REQUEST, ESTIMATED, None, full_share=0.5)
    assert (whole.source, half.source) == ("counted", "estimated")


@pytest.mark.parametrize("failure", ["silence", Script(status=529)], ids=["slow", "failing"])
async def test_without_a_count_the_estimate_stands(failure: Count) -> None:
    async with counting(always(failure), timeout_s=0.1) as (provider, _):
        counted = await context_tokens(provider, REQUEST, DOUBTFUL, None)
    assert counted == Counted(ESTIMATED, "estimated")


class Counter(DemoProvider):
    """Notes that it was asked."""

    asked = 0

    async def count_tokens(self, request: ModelRequest) -> int | None:
        self.asked += 1
        return await super().count_tokens(request)


@pytest.mark.parametrize("doubt", [DOUBT_SHARE, 0.05, 0.5])
async def test_the_band_of_doubt_is_as_wide_as_it_says(doubt: float) -> None:
    for percent in range(40, 161):
        counter = Counter()
        window = round(ESTIMATED * 100 / percent / CROWDED_SHARE)
        await context_tokens(counter, REQUEST, window, None, doubt_share=doubt)
        off = abs(percent / 100 - 1)
        if abs(off - doubt) > 0.005:
            assert counter.asked == (off < doubt), percent
