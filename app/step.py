"""Takes one step: renders the request, calls the model, keeps what it says as it says it."""

import asyncio
from contextlib import aclosing
from typing import Any, Final
from uuid import uuid4

from app.execute import Execute
from app.log import Log
from app.mapper import revive
from app.pacer import Keep, Pacer
from app.providers import Delta, ModelError, Reply
from app.providers.catalogue import Catalogue, MalformedHandle, Resolved, UnknownHandle
from app.windows import Windows
from domain.content import ToolCall
from domain.conversation import AppendDeltas, FinishRun, FinishStep, StartStep
from domain.event import Command, Recorded
from domain.run import (
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
from projections.request import RENDERER, ModelRequest, sha256_of, system_of, turns_of
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
        *,
        by: str,
        pace_s: float,
    ) -> None:
        self._log = log
        self._execute = execute
        self._windows = windows
        self._catalogue = catalogue
        self._by = by
        self._pace_s = pace_s

    async def take(self, stream: str, run: Run, effect: TakeStep) -> None:
        """Call the model once. A failure of the model ends the run; `Stale` goes through."""
        if run.claimed is None:
            raise ValueError(f"{run.run_id} is stepped but not claimed")
        try:
            await self._take(stream, run, run.claimed, effect)
        except ModelError as error:
            failure = Failure(
                error_type=error.error_type, message=error.message, detail=error.detail
            )
            reason = STOP_REASONS.get(error.error_type, "llm_api_error")
            await self._fail(stream, effect, reason, failure)
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
        window = await self._windows.newest(stream)
        request = request_of(window, resolved, run, claimed)
        s = await self._start(stream, window, request, effect, claimed)
        pacer = Pacer(s, self._keeper(stream, effect), self._pace_s)
        reply = await self._listen(resolved, request, pacer)
        if any(isinstance(part, ToolCall) for part in reply.parts):
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
                parts=stored_parts(s, reply.parts),
                usage=reply.usage,
                finish_reason=reply.finish_reason,
            ),
        )

    async def _start(
        self,
        stream: str,
        window: Window,
        request: ModelRequest,
        effect: TakeStep,
        claimed: RunClaimed,
    ) -> int:
        """Record that the model is about to be called; give the offset that names the step."""
        manifest = Manifest(
            system_at=0 if window.system is None else window.system.offset,
            items=window.spans,
            sha256=sha256_of(request),
            renderer=RENDERER,
        )
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
            ),
        )
        return started[0].version

    async def _listen(self, resolved: Resolved, request: ModelRequest, pacer: Pacer) -> Reply:
        """Take in a reply while its deltas are kept; if either fails, both stop."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(pacer.run())
                reply = await _heard(resolved, request, pacer)
                pacer.end()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return reply

    def _keeper(self, stream: str, effect: TakeStep) -> Keep:
        async def keep(deltas: tuple[StepDelta, ...]) -> None:
            await self._do(stream, AppendDeltas(effect.run_id, effect.epoch, deltas))

        return keep

    async def _fail(
        self, stream: str, effect: TakeStep, reason: StopReason, failure: Failure
    ) -> None:
        ending = EndRun(effect.run_id, effect.epoch, "failed", reason, failure)
        await self._do(stream, FinishRun(ending))

    async def _do(self, stream: str, command: Command) -> list[Recorded[Any]]:
        return await self._execute(stream, command, self._by)


async def _heard(resolved: Resolved, request: ModelRequest, pacer: Pacer) -> Reply:
    # Closed at once when we stop listening for whatever reason: the socket goes with it.
    async with aclosing(resolved.provider.complete(request)) as reply:
        async for heard in reply:
            if isinstance(heard, Delta):
                await pacer.add(heard)
            else:
                return heard
    raise ModelError("stream_incomplete", "The model's reply broke off.")


def request_of(window: Window, resolved: Resolved, run: Run, claimed: RunClaimed) -> ModelRequest:
    """Render what the model is told."""
    stored = "" if window.system is None else window.system.system.text
    system = run.request.overrides.system or stored
    return ModelRequest(
        provider=resolved.provider_type,
        model=resolved.model,
        system=system_of(system, run.request.skills),
        turns=turns_of(window),
        settings=claimed.settings,
    )
