"""Asks a model for a summary: another model with a transcript, or the agent's own as it stands."""

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

from app.compaction.settings import summariser_of
from app.counting import context_tokens
from app.listening import Listener
from app.providers import ModelError, Reply
from app.providers.catalogue import Catalogue, MalformedHandle, Resolved, UnknownHandle
from app.retries import Retries
from domain.compaction import CompactionSettings
from domain.content import Text, ToolCall, ToolSchema
from domain.conversation import CompactionFailure
from domain.run import RunClaimed, RunRequest, Usage
from projections.compaction import Plan
from projections.cuts import Bonds, unanswered_calls_stay
from projections.items import Item, ReturnItem
from projections.prompts import self_turns, transcript_turns
from projections.request import offer_of, request_of, sha256_of
from projections.transcript import middle_cut, transcript_of
from projections.turns import ModelRequest
from projections.window import Window

Given: TypeAlias = Literal["whole", "clamped", "cut"]
# The original's ladder for a transcript that is too long (contract section 8.5).
RETURN_CHARS_MAX: Final = 5000
CUT_SHARE: Final = 0.6
BYTES_PER_TOKEN: Final = 4
OVERFLOW: Final = "context_window_overflow"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Own:
    """The agent's own model as its runs use it: what its next request would begin with.

    `claimed` and `asked` are those of the run that is under way, or of the last one.
    """

    handle: str
    asked: RunRequest
    claimed: RunClaimed
    tools: tuple[ToolSchema, ...] = ()

    def request(self, window: Window) -> ModelRequest:
        """Render a window as the run would."""
        offer = offer_of(self.tools, self.claimed, None)
        return request_of(window, self.handle, self.asked, self.claimed, offer)


@dataclass(frozen=True, slots=True)
class Said:
    """What a summariser said, and what it was asked: `sha256` names the request."""

    model: str
    text: str = ""
    given: Given | None = None
    sha256: str | None = None
    usage: Usage | None = None


class SummaryFailed(Exception):
    """There is no summary; `said` is what was asked last."""

    def __init__(self, reason: CompactionFailure, detail: str, said: Said) -> None:
        super().__init__(detail)
        self.reason: CompactionFailure = reason
        self.detail = detail
        self.said = said


class Summariser:
    """Gets summaries from models, over and over if they are overloaded for a moment."""

    def __init__(self, catalogue: Catalogue, listener: Listener, retries: Retries) -> None:
        self._catalogue = catalogue
        self._listener = listener
        self._retries = retries

    async def summary_of(
        self, window: Window, plan: Plan, settings: CompactionSettings, own: Own
    ) -> Said:
        """Have what a plan evicts summarised. Raises SummaryFailed."""
        try:
            if plan.mode.startswith("self_"):
                return await self._by_itself(window, plan, settings, own)
            return await self._by_another(plan, settings, own)
        except SummaryFailed:
            raise
        except (UnknownHandle, MalformedHandle) as error:
            raise SummaryFailed("summariser_failed", str(error), Said(own.handle)) from None
        except Exception as error:  # a flaw of ours: another mode may do without what it is in
            logger.exception("%s cannot summarise", own.handle)
            words = type(error).__name__
            raise SummaryFailed("summariser_failed", words, Said(own.handle)) from None

    async def counted(
        self, window: Window, own: Own, context_window: int, estimated: int
    ) -> int | None:
        """Have the own model's vendor count a window, None if it need not, cannot or does not."""
        try:
            provider = self._catalogue.resolve(own.handle).provider
            counted = await context_tokens(
                provider, own.request(window), context_window, None, estimated=estimated
            )
        except (UnknownHandle, MalformedHandle):
            return None
        return counted.tokens if counted.source == "counted" else None

    async def _by_itself(
        self, window: Window, plan: Plan, settings: CompactionSettings, own: Own
    ) -> Said:
        """Ask the agent's own model, after the very beginning that its requests have.

        The request begins with the same bytes, so that what the vendor has cached of it serves.
        """
        resolved = self._catalogue.resolve(own.handle)
        own = replace(own, handle=resolved.handle)
        shown = replace(window, items=_shown_to_itself(window, plan))
        request = own.request(shown)
        turns = self_turns(request.turns, settings.prompt)
        asked = request.model_copy(update={"turns": turns})
        said = Said(resolved.handle, given="whole", sha256=sha256_of(asked))
        return await self._asked(resolved, asked, said)

    async def _by_another(self, plan: Plan, settings: CompactionSettings, own: Own) -> Said:
        """Ask a summariser with a transcript; one that is too long for it is made shorter."""
        chosen = summariser_of(self._catalogue, settings, own.handle, own.claimed.settings)
        resolved = chosen.resolved
        ladder: tuple[Given, ...] = ("whole", "clamped", "cut")
        for given in ladder:
            transcript = await asyncio.to_thread(_transcript, plan, given, resolved)
            request = _request(resolved, chosen.settings, settings, transcript)
            said = Said(resolved.handle, given=given, sha256=sha256_of(request))
            try:
                return await self._asked(resolved, request, said)
            except SummaryFailed as error:
                if error.reason != OVERFLOW or given == ladder[-1]:
                    raise
        raise AssertionError("the ladder has a last step")

    async def _asked(self, resolved: Resolved, request: ModelRequest, said: Said) -> Said:
        reply = await self._heard(resolved, request, said)
        text = "".join(part.text for part in reply.parts if isinstance(part, Text)).strip()
        said = replace(said, text=text, usage=reply.usage)
        if reply.finish_reason == "content_filter":
            raise SummaryFailed("refused_summary", "The model refused to summarise.", said)
        if any(isinstance(part, ToolCall) for part in reply.parts):
            words = "The model called a tool instead of summarising."
            raise SummaryFailed("summariser_failed", words, said)
        if not text:
            raise SummaryFailed("empty_summary", "The model's summary was empty.", said)
        return said

    async def _heard(self, resolved: Resolved, request: ModelRequest, said: Said) -> Reply:
        attempt = 1
        while True:
            try:
                return await self._listener.reply_of(resolved, request)
            except ModelError as error:
                pause_ms = self._retries.pause_ms(error, attempt)
                if pause_ms is None:
                    raise SummaryFailed(_reason(error), _words(error), said) from None
            attempt += 1
            await asyncio.sleep(pause_ms / 1000)


def _reason(error: ModelError) -> CompactionFailure:
    if error.error_type == OVERFLOW:
        return "context_window_overflow"
    return "empty_summary" if error.error_type == "llm_empty_response" else "summariser_failed"


def _words(error: ModelError) -> str:
    return f"{error.error_type}: {error.message}"


def _shown_to_itself(window: Window, plan: Plan) -> tuple[Item, ...]:
    """Give the beginning of the window that is to be summarised, without calls that are open.

    Vendors take no call that has no return.
    """
    open_steps = unanswered_calls_stay(window.items, Bonds())
    return tuple(
        item
        for item in window.items[: plan.prefix]
        if (item.s if isinstance(item, ReturnItem) else item.offset) not in open_steps
    )


def _transcript(plan: Plan, given: Given, resolved: Resolved) -> str:
    if given == "whole":
        return transcript_of(plan.evicted)
    shorter = transcript_of(plan.evicted, RETURN_CHARS_MAX)
    if given == "clamped":
        return shorter
    return middle_cut(shorter, int(CUT_SHARE * resolved.context_window * BYTES_PER_TOKEN))


def _request(
    resolved: Resolved,
    model_settings: dict[str, Any],
    settings: CompactionSettings,
    transcript: str,
) -> ModelRequest:
    return ModelRequest(
        provider=resolved.provider_type,
        model=resolved.model,
        system=settings.prompt,
        turns=transcript_turns(transcript, acknowledged=settings.prompt_acknowledgement),
        settings=model_settings,
    )
