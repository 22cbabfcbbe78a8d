"""Takes one step: renders the request, calls the model, keeps what it says as it says it."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from app.execute import Execute
from app.log import Log
from app.mapper import revive
from app.pacer import Keep, Pacer
from app.providers import Delta, ModelError, Reply
from app.providers.catalogue import Catalogue, MalformedHandle, Resolved, UnknownHandle
from app.retries import Retries
from app.windows import Windows
from domain.content import ToolCall, ToolSchema
from domain.conversation import AppendDeltas, FinishRun, FinishStep, StartStep, SupersedeStep
from domain.event import Command, Recorded
from domain.run import (
    CloseStep,
    EndRun,
    Failure,
    Manifest,
    Run,
    RunClaimed,
    RunQueued,
    StepDelta,
    StopReason,
    TakeStep,
)
from domain.streams import MESSAGE, STEP, id_of
from projections.parts import interrupted_parts, stored_parts
from projections.request import (
    RENDERER,
    ModelRequest,
    return_chars_max,
    sha256_of,
    system_of,
    turns_of,
)
from projections.window import Window

STOP_REASONS: Final[dict[str, StopReason]] = {
    "llm_empty_response": "invalid_llm_response",
    "llm_insufficient_credits": "insufficient_credits",
}
UNEXPECTED_CALL: Final = Failure(
    error_type="llm_error", message="The model called a tool though it was offered none."
)
# More than any model says in one reply.
REPLY_CHARS_MAX: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools that a step offers, and the names of those that wait for the client.

    `tools_at` is the offset of the fact that lists the client's.
    """

    tools: tuple[ToolSchema, ...]
    gated: tuple[str, ...]
    tools_at: int | None


class Steps:
    """Takes the steps of all runs, in the name of one worker."""

    def __init__(  # noqa: PLR0913 - the parts it works with
        self,
        log: Log,
        execute: Execute,
        windows: Windows,
        catalogue: Catalogue,
        retries: Retries,
        *,
        by: str,
        pace_s: float,
        silence_s: float,
        reply_s: float,
    ) -> None:
        self._log = log
        self._execute = execute
        self._windows = windows
        self._catalogue = catalogue
        self._retries = retries
        self._by = by
        self._pace_s = pace_s
        self._silence_s = silence_s
        self._reply_s = reply_s

    async def take(self, stream: str, run: Run, effect: TakeStep) -> None:
        """Call the model once. A failure of the model ends the run, or has it tried again.

        `Stale` goes through.
        """
        if run.claimed is None:
            raise ValueError(f"{run.run_id} is stepped but not claimed")
        if effect.delay_ms:
            await asyncio.sleep(effect.delay_ms / 1000)
        try:
            await self._take(stream, run, run.claimed, effect)
        except (UnknownHandle, MalformedHandle) as error:
            failure = Failure(error_type="llm_bad_request", message=str(error))
            await self._fail(stream, effect, "llm_api_error", failure)

    async def close(self, stream: str, effect: CloseStep) -> None:
        """Keep what a cancelled step had said: exactly its committed deltas."""
        rows = await self._log.read(stream, after=effect.s)
        facts = [revive(row).event for row in rows if row.topic == "step.delta"]
        deltas = [fact for fact in facts if isinstance(fact, StepDelta) and fact.s == effect.s]
        parts = interrupted_parts(effect.s, deltas)
        await self._do(
            stream, FinishStep(effect.run_id, effect.epoch, effect.s, "interrupted", parts=parts)
        )

    async def _take(self, stream: str, run: Run, claimed: RunClaimed, effect: TakeStep) -> None:
        resolved = self._catalogue.resolve(claimed.model)
        offer = await self._offer(stream, run, claimed)
        window = await self._windows.newest(stream)
        request = request_of(window, resolved, run, claimed, offer)
        manifest = manifest_of(window, request, offer)
        s = await self._start(stream, effect, claimed, offer, manifest)
        pacer = Pacer(s, self._keeper(stream, effect), self._pace_s)
        try:
            reply = await self._listen(resolved, request, pacer)
        except ModelError as error:
            await self._failed(stream, effect, s, error, heard=pacer.heard)
            return
        if not offer.tools and any(isinstance(part, ToolCall) for part in reply.parts):
            await self._fail(stream, effect, "invalid_tool_call", UNEXPECTED_CALL)
            return
        await self._do(
            stream,
            FinishStep(
                effect.run_id,
                effect.epoch,
                s,
                "ok",
                deltas=pacer.rest(),
                parts=stored_parts(s, reply.parts, offer.gated),
                usage=reply.usage,
                finish_reason=reply.finish_reason,
            ),
        )

    async def _offer(self, stream: str, run: Run, claimed: RunClaimed) -> Offer:
        """Gather the tools: the client's, which hide the server's of the same name, then those."""
        own = await self._client_tools(stream, run)
        names = {tool.name for tool in own}
        ours = [tool for tool in claimed.tools if tool.name not in names]
        schemas = (
            ToolSchema(name=tool.name, description=tool.description, parameters=tool.parameters)
            for tool in ours
        )
        names_gated = (*(tool.name for tool in own), *(tool.name for tool in ours if tool.gated))
        return Offer((*own, *schemas), names_gated, run.tools_at)

    async def _client_tools(self, stream: str, run: Run) -> tuple[ToolSchema, ...]:
        if run.tools_at is None:
            return ()
        (row,) = await self._log.read(stream, after=run.tools_at - 1, limit=1)
        fact: Recorded[RunQueued] = revive(row)
        return fact.event.tools or ()

    async def _start(
        self, stream: str, effect: TakeStep, claimed: RunClaimed, offer: Offer, manifest: Manifest
    ) -> int:
        """Record that the model is about to be called; give the offset that names the step."""
        started = await self._do(
            stream,
            StartStep(
                run_id=effect.run_id,
                epoch=effect.epoch,
                step_id=id_of(STEP, uuid4()),
                index=effect.index,
                attempt=effect.attempt,
                message_id=id_of(MESSAGE, uuid4()),
                model=claimed.model,
                settings=claimed.settings,
                manifest=manifest,
                gated=offer.gated,
            ),
        )
        return started[0].version

    async def _listen(self, resolved: Resolved, request: ModelRequest, pacer: Pacer) -> Reply:
        """Take in a reply while its deltas are kept; if either fails, both stop."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(pacer.run())
                reply = await self._heard(resolved, request, pacer)
                pacer.end()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return reply

    async def _heard(self, resolved: Resolved, request: ModelRequest, pacer: Pacer) -> Reply:
        """Listen, but not for ever: to a silent model so long, to an endless one longer."""
        whole = asyncio.timeout(self._reply_s)
        try:
            async with whole:
                return await self._reply_of(resolved, request, pacer)
        except TimeoutError:
            limit_s = self._reply_s if whole.expired() else self._silence_s
            what = "took longer than" if whole.expired() else "said nothing for"
            raise ModelError("llm_timeout", f"The model {what} {limit_s:g} s.") from None

    async def _reply_of(self, resolved: Resolved, request: ModelRequest, pacer: Pacer) -> Reply:
        chars = 0
        # Closed at once when we stop listening for whatever reason: the socket goes with it.
        async with aclosing(resolved.provider.complete(request)) as reply:
            while True:
                async with asyncio.timeout(self._silence_s):
                    heard = await anext(reply, None)
                if not isinstance(heard, Delta):
                    break
                chars += len(heard.text)
                if chars > REPLY_CHARS_MAX:
                    raise ModelError(
                        "llm_error", f"The reply grew past {REPLY_CHARS_MAX} characters."
                    )
                await pacer.add(heard)
        if heard is None:
            raise ModelError("stream_incomplete", "The model's reply broke off.")
        if not heard.parts:
            raise ModelError("llm_empty_response", "The model sent an empty reply.")
        return heard

    def _keeper(self, stream: str, effect: TakeStep) -> Keep:
        async def keep(deltas: tuple[StepDelta, ...]) -> None:
            await self._do(stream, AppendDeltas(effect.run_id, effect.epoch, deltas))

        return keep

    async def _failed(
        self, stream: str, effect: TakeStep, s: int, error: ModelError, *, heard: bool
    ) -> None:
        """Have the step taken again if nothing of it was said and it may help; else end the run."""
        pause_ms = None if heard else self._retries.pause_ms(error, effect.attempt)
        if pause_ms is not None:
            command = SupersedeStep(effect.run_id, effect.epoch, s, "provider_error", pause_ms)
            await self._do(stream, command)
            return
        failure = Failure(error_type=error.error_type, message=error.message, detail=error.detail)
        reason = STOP_REASONS.get(error.error_type, "llm_api_error")
        await self._fail(stream, effect, reason, failure)

    async def _fail(
        self, stream: str, effect: TakeStep, reason: StopReason, failure: Failure
    ) -> None:
        ending = EndRun(effect.run_id, effect.epoch, "failed", reason, failure)
        await self._do(stream, FinishRun(ending))

    async def _do(self, stream: str, command: Command) -> list[Recorded[Any]]:
        return await self._execute(stream, command, self._by)


def request_of(
    window: Window, resolved: Resolved, run: Run, claimed: RunClaimed, offer: Offer
) -> ModelRequest:
    """Render what the model is told."""
    stored = "" if window.system is None else window.system.system.text
    system = run.request.overrides.system or stored
    return ModelRequest(
        provider=resolved.provider_type,
        model=resolved.model,
        system=system_of(system, run.request.skills),
        turns=turns_of(window, return_chars_max(claimed.context_window)),
        tools=offer.tools,
        settings=claimed.settings,
    )


def manifest_of(window: Window, request: ModelRequest, offer: Offer) -> Manifest:
    """Say what a request was made of, so that it can be made again."""
    manifest = Manifest(
        system_at=0 if window.system is None else window.system.offset,
        items=window.spans,
        sha256=sha256_of(request),
        renderer=RENDERER,
    )
    if offer.tools_at is None:
        return manifest
    return manifest.model_copy(update={"tools_at": offer.tools_at})
