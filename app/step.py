"""Takes one step: renders the request, calls the model, keeps what it says as it says it."""

import asyncio
from typing import Any, Final
from uuid import uuid4

from app.execute import Execute
from app.listening import Listener
from app.log import Log
from app.mapper import revive
from app.pacer import Keep, Pacer
from app.providers import ModelError, Reply
from app.providers.catalogue import Catalogue, MalformedHandle, Resolved, UnknownHandle
from app.recall.rebuilding import client_tools
from app.retries import Retries
from app.windows import Windows
from domain.content import ToolCall, ToolSchema
from domain.conversation import AppendDeltas, FinishRun, FinishStep, StartStep, SupersedeStep
from domain.event import Command, Recorded
from domain.run import (
    OVERFLOWS_MAX,
    CloseStep,
    EndRun,
    Failure,
    Manifest,
    Run,
    RunClaimed,
    StepDelta,
    StopReason,
    TakeStep,
)
from domain.streams import MESSAGE, STEP, id_of
from projections.parts import interrupted_parts, stored_parts
from projections.request import (
    RENDERER,
    ModelRequest,
    Offer,
    offer_of,
    request_of,
    sha256_of,
)
from projections.tokens import tokens_of_request
from projections.window import Window

STOP_REASONS: Final[dict[str, StopReason]] = {
    "llm_empty_response": "invalid_llm_response",
    "llm_insufficient_credits": "insufficient_credits",
}
UNEXPECTED_CALL: Final = Failure(
    error_type="llm_error", message="The model called a tool though it was offered none."
)


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
        listener: Listener,
        by: str,
        pace_s: float,
    ) -> None:
        self._log = log
        self._execute = execute
        self._windows = windows
        self._catalogue = catalogue
        self._retries = retries
        self._listener = listener
        self._by = by
        self._pace_s = pace_s

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
        own = await self._client_tools(stream, run)
        offer = offer_of(own, claimed, run.tools_at)
        window = await self._windows.newest(stream)
        request = request_of(window, resolved.handle, run.request, claimed, offer)
        manifest = manifest_of(window, request, offer)
        s = await self._start(stream, effect, request, offer, manifest)
        pacer = Pacer(s, self._keeper(stream, effect), self._pace_s)
        try:
            reply = await self._listen(resolved, request, pacer)
        except ModelError as error:
            # Once something of it was said, it is not taken back.
            again = None if pacer.heard else self._again(run, effect, s, error)
            await (
                self._failed(stream, effect, error) if again is None else self._do(stream, again)
            )
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

    async def _client_tools(self, stream: str, run: Run) -> tuple[ToolSchema, ...]:
        if run.tools_at is None:
            return ()
        return await self._log.in_reader(
            lambda: client_tools(self._log.store, stream, run.tools_at)
        )

    async def _start(
        self, stream: str, effect: TakeStep, request: ModelRequest, offer: Offer, manifest: Manifest
    ) -> int:
        """Record that the model is about to be called; give the offset that names the step.

        The handle is that of the model itself: what the default model is may change.
        """
        started = await self._do(
            stream,
            StartStep(
                run_id=effect.run_id,
                epoch=effect.epoch,
                step_id=id_of(STEP, uuid4()),
                index=effect.index,
                attempt=effect.attempt,
                message_id=id_of(MESSAGE, uuid4()),
                model=request.handle,
                settings=request.settings,
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
                reply = await self._listener.reply_of(resolved, request, pacer.add)
                pacer.end()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return reply

    def _keeper(self, stream: str, effect: TakeStep) -> Keep:
        async def keep(deltas: tuple[StepDelta, ...]) -> None:
            await self._do(stream, AppendDeltas(effect.run_id, effect.epoch, deltas))

        return keep

    def _again(self, run: Run, effect: TakeStep, s: int, error: ModelError) -> SupersedeStep | None:
        """Tell how a step that failed is taken again: in a smaller window, or after a pause."""
        if error.error_type == "context_window_overflow" and run.overflows < OVERFLOWS_MAX:
            return SupersedeStep(effect.run_id, effect.epoch, s, "context_exceeded")
        pause_ms = self._retries.pause_ms(error, effect.attempt)
        if pause_ms is None:
            return None
        return SupersedeStep(effect.run_id, effect.epoch, s, "provider_error", pause_ms)

    async def _failed(self, stream: str, effect: TakeStep, error: ModelError) -> None:
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


def manifest_of(window: Window, request: ModelRequest, offer: Offer) -> Manifest:
    """Say what a request was made of, so that it can be made again."""
    manifest = Manifest(
        system_at=0 if window.system is None else window.system.offset,
        items=window.spans,
        sha256=sha256_of(request),
        renderer=RENDERER,
        window_at=window.at,
        tokens=tokens_of_request(request),
    )
    if offer.tools_at is None:
        return manifest
    return manifest.model_copy(update={"tools_at": offer.tools_at})
