import subprocess
import sys
from typing import Any

import pytest

from app.providers.catalogue import Catalogue, MalformedHandle, ProviderSettings, UnknownHandle
from app.providers.demo import DemoProvider
from app.providers.vendors import AnthropicProvider
from tests.app.test_providers import KEY
from tests.vendor import MODEL, Vendor

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def catalogue(**settings: Any) -> Catalogue:
    return Catalogue(ProviderSettings(**settings))


def test_nothing_of_a_vendor_is_imported_before_it_is_used() -> None:
    program = (
        "import sys\n"
        "from app.providers.catalogue import Catalogue, ProviderSettings\n"
        "Catalogue(ProviderSettings(anthropic_api_key='k')).resolve('anthropic/claude-opus-5-5')\n"
        "print({'anthropic', 'pydantic_ai', 'httpx2'} & sys.modules.keys())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "set()\n"


async def test_a_handle_leads_to_its_provider_which_is_constructed_once() -> None:
    both = catalogue(anthropic_api_key=KEY)
    resolved = both.resolve("anthropic/claude-sonnet-4-5")
    assert isinstance(resolved.provider, AnthropicProvider)
    assert (resolved.provider_type, resolved.model) == ("anthropic", "claude-sonnet-4-5")
    assert both.resolve("anthropic/claude-opus-5-5").provider is resolved.provider
    assert isinstance(both.resolve("demo/steady").provider, DemoProvider)
    await both.close()


def test_a_letta_handle_stands_for_the_default_model() -> None:
    resolved = catalogue(default_model="demo/steady").resolve("letta/auto")
    assert (resolved.handle, resolved.model) == ("demo/steady", "steady")


@pytest.mark.parametrize("handle", ["", "gpt", "/", "demo/", "/echo"])
def test_a_handle_without_provider_and_model_is_malformed(handle: str) -> None:
    with pytest.raises(MalformedHandle):
        catalogue().resolve(handle)


@pytest.mark.parametrize("handle", ["anthropic/claude-opus-5-5", "nobody/nothing"])
async def test_a_provider_without_a_key_is_unknown(handle: str) -> None:
    without = catalogue()
    await without.models()
    with pytest.raises(UnknownHandle) as unknown:
        without.resolve(handle)
    assert unknown.value.handle == handle
    assert unknown.value.known == ["demo/echo", "demo/steady"]


def test_a_model_that_a_closed_list_does_not_have_is_unknown_before_it_is_asked() -> None:
    both = catalogue(anthropic_api_key=KEY)
    with pytest.raises(UnknownHandle) as unknown:
        both.resolve("demo/ecko")
    assert unknown.value.known == ["demo/echo", "demo/steady", "anthropic/…"]
    assert both.resolve("anthropic/claude-of-tomorrow").model == "claude-of-tomorrow"


@pytest.mark.parametrize(
    ("handle", "window", "source"),
    [
        ("anthropic/claude-sonnet-4-5", 50_000, "setting"),
        ("anthropic/claude-haiku-4-5", 200_000, "library"),
        ("anthropic/claude-opus-5-5", 1_000_000, "library"),
        ("anthropic/another", 128_000, "default"),
        ("demo/echo", 128_000, "default"),
    ],
)
def test_a_context_window_says_where_it_is_from(handle: str, window: int, source: str) -> None:
    windows = {"anthropic/claude-sonnet-4-5": 50_000}
    resolved = catalogue(anthropic_api_key=KEY, context_windows=windows).resolve(handle)
    assert (resolved.context_window, resolved.source) == (window, source)


async def test_the_vendors_own_list_is_asked_for_once() -> None:
    another = MODEL | {"id": "another", "max_input_tokens": 77_000}
    async with Vendor(models=(another,)) as vendor:
        both = catalogue(anthropic_api_key=KEY, anthropic_base_url=vendor.base_url)
        listed = await both.models()
        assert await both.models() == listed
        assert len(vendor.requests) == 1
        card = listed[-1]
        assert (card.handle, card.context_window) == ("anthropic/another", 77_000)
        assert card.source == "vendor"
        assert both.resolve("anthropic/another").context_window == 77_000
        await both.close()


async def test_a_retired_model_is_not_on_offer() -> None:
    retired = MODEL | {"id": "claude-2", "lifecycle": "retired"}
    async with Vendor(models=(MODEL, retired)) as vendor:
        both = catalogue(anthropic_api_key=KEY, anthropic_base_url=vendor.base_url)
        handles = [card.handle for card in await both.models()]
        await both.close()
    assert handles == ["demo/echo", "demo/steady", "anthropic/claude-haiku-4-5"]


async def test_a_gateways_older_list_is_read_as_well() -> None:
    older = {name: MODEL[name] for name in ("type", "id", "display_name", "created_at")}
    async with Vendor(models=(older,)) as vendor:
        both = catalogue(anthropic_api_key=KEY, anthropic_base_url=vendor.base_url)
        handles = [card.handle for card in await both.models()]
        await both.close()
    assert handles == ["demo/echo", "demo/steady", "anthropic/claude-haiku-4-5"]


async def test_a_vendor_that_cannot_be_asked_still_has_models() -> None:
    async with Vendor(models_status=500) as vendor:
        both = catalogue(anthropic_api_key=KEY, anthropic_base_url=vendor.base_url)
        handles = [card.handle for card in await both.models()]
        await both.close()
    assert "anthropic/claude-haiku-4-5" in handles
    assert "demo/echo" in handles


async def test_the_operators_window_is_on_the_models_card() -> None:
    async with Vendor() as vendor:
        both = catalogue(
            anthropic_api_key=KEY,
            anthropic_base_url=vendor.base_url,
            context_windows={"anthropic/claude-haiku-4-5": 9_000},
        )
        card = (await both.models())[-1]
        await both.close()
    assert (card.context_window, card.source) == (9_000, "setting")
