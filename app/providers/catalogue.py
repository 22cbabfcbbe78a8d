"""Which models there are and how each is reached: a row per kind of provider."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from app.providers import ModelCard, Provider
from app.providers.demo import DEMO_MODELS, DemoProvider
from app.providers.vendors import AnthropicProvider, claude_window

CONTEXT_WINDOW: Final = 128_000
WindowSource: TypeAlias = Literal["library", "vendor", "setting", "default"]


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What the operator says about models. A row's variables name fields here, in lower case."""

    anthropic_api_key: str | None = field(default=None, repr=False)
    anthropic_base_url: str | None = None
    default_model: str = "demo/echo"
    model_timeout_s: float = 120.0
    context_windows: Mapping[str, int] = field(default_factory=dict[str, int])
    word_delay_s: float = 0.03

    def value_of(self, variable: str | None) -> str | None:
        """Give the value of a row's variable, None when it is not set."""
        return getattr(self, variable.lower()) if variable else None


@dataclass(frozen=True, slots=True)
class Access:
    """What a provider is constructed with."""

    api_key: str
    base_url: str | None
    settings: ProviderSettings


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of provider is reached. One without a key variable needs no key.

    `models` are all that it has, None where only the vendor knows.
    """

    provider_type: str
    key_variable: str | None
    base_url_variable: str | None
    construct: Callable[[Access], Provider]
    window_of: Callable[[str], int | None]
    models: frozenset[str] | None = None

    def may_have(self, model: str) -> bool:
        """Tell whether a model is one of its, as far as is known here."""
        return self.models is None or model in self.models

    @property
    def handles(self) -> list[str]:
        """What there is to name before any vendor was asked: its models' handles, or its prefix."""
        return [f"{self.provider_type}/{name}" for name in sorted(self.models or {"…"})]


def _demo(access: Access) -> Provider:
    return DemoProvider(access.settings.word_delay_s, access.settings.context_windows)


def _anthropic(access: Access) -> Provider:
    timeout_s = access.settings.model_timeout_s
    return AnthropicProvider(access.api_key, access.base_url, timeout_s=timeout_s)


def _unknown_window(_name: str) -> None:
    return None


ROWS: Final = (
    Row("demo", None, None, _demo, _unknown_window, DEMO_MODELS),
    Row("anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", _anthropic, claude_window),
)


class MalformedHandle(Exception):
    """A handle that is not `provider/model`."""

    def __init__(self, handle: str) -> None:
        super().__init__(f"A model's handle is provider/model, not {handle!r}.")
        self.handle = handle


class UnknownHandle(Exception):
    """A handle of a model or provider that there is not, or of one without a key.

    `known` are handles that work.
    """

    def __init__(self, handle: str, known: list[str]) -> None:
        super().__init__(f"Handle {handle} not found, must be one of {known}.")
        self.handle = handle
        self.known = known


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a handle leads; `source` tells where its context window is from."""

    handle: str
    provider: Provider
    provider_type: str
    model: str
    context_window: int
    source: WindowSource


class Catalogue:
    """The models that this server can reach. A provider is constructed once, on first use."""

    def __init__(self, settings: ProviderSettings, rows: tuple[Row, ...] = ROWS) -> None:
        self._settings = settings
        self._all_rows = {row.provider_type: row for row in rows}
        self._rows = {row.provider_type: row for row in rows if _has_key(row, settings)}
        self._providers: dict[str, Provider] = {}
        self._cards: dict[str, ModelCard] = {}

    def resolve(self, handle: str) -> Resolved:
        """Find the provider of a handle. `letta/…` stands for the default model, whatever it is."""
        handle = self.meant(handle)
        provider_type, separator, model = handle.partition("/")
        if not (provider_type and separator and model):
            raise MalformedHandle(handle)
        row = self._rows.get(provider_type)
        if row is None or not row.may_have(model):
            raise UnknownHandle(handle, self.known())
        window, source = self._window_of(row, handle, model)
        return Resolved(handle, self._provider_of(row), provider_type, model, window, source)

    def meant(self, handle: str) -> str:
        """Give the handle that another stands for, mostly itself."""
        return self._settings.default_model if handle.startswith("letta/") else handle

    def renderer(self, provider_type: str) -> Provider | None:
        """Give a provider to render requests with; it may have no key, but can tell their wire."""
        row = self._all_rows.get(provider_type)
        return None if row is None else self._provider_of(row)

    def known(self) -> list[str]:
        """Name the handles that are certain to resolve: those listed, or their providers' prefix."""
        listed = sorted(self._cards)
        prefixes = {card.provider_type for card in self._cards.values()}
        unlisted = [row for name, row in self._rows.items() if name not in prefixes]
        return listed + [handle for row in unlisted for handle in row.handles]

    async def models(self) -> tuple[ModelCard, ...]:
        """List the models of every provider that has what it needs."""
        listed = [await self._provider_of(row).models() for row in self._rows.values()]
        self._cards = {card.handle: card for cards in listed for card in cards}
        return tuple(self._judged(card) for card in self._cards.values())

    async def close(self) -> None:
        """Let go of all providers' connections."""
        for provider in self._providers.values():
            await provider.close()

    def _provider_of(self, row: Row) -> Provider:
        if row.provider_type not in self._providers:
            self._providers[row.provider_type] = row.construct(_access(row, self._settings))
        return self._providers[row.provider_type]

    def _judged(self, card: ModelCard) -> ModelCard:
        window, source = self._window_of(self._rows[card.provider_type], card.handle, card.name)
        return replace(card, context_window=window, source=source)

    def _window_of(self, row: Row, handle: str, model: str) -> tuple[int, WindowSource]:
        # The library before the vendor: its numbers are the same before and after the vendor was
        # asked, and on every node.
        if (window := self._settings.context_windows.get(handle)) is not None:
            return window, "setting"
        if (window := row.window_of(model)) is not None:
            return window, "library"
        if (card := self._cards.get(handle)) is not None and card.source == "vendor":
            return card.context_window, "vendor"
        return CONTEXT_WINDOW, "default"


def _has_key(row: Row, settings: ProviderSettings) -> bool:
    return row.key_variable is None or bool(settings.value_of(row.key_variable))


def _access(row: Row, settings: ProviderSettings) -> Access:
    return Access(
        api_key=settings.value_of(row.key_variable) or "",
        base_url=settings.value_of(row.base_url_variable),
        settings=settings,
    )
