"""A run as frames on Letta's wire: what each of its facts says to a client (events.md, "Frames").

A fact makes at most one numbered frame, and its number is the fact's offset. Live or years later,
the same facts make the same bytes; only deltas of superseded steps are kept from later readers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from domain.conversation import (
    ConsolidationQueued,
    MessageAppended,
    MessageQueued,
    WindowCompacted,
    WindowCompactionStarted,
)
from domain.event import Recorded
from domain.run import (
    RunFinished,
    RunQueued,
    RunRequest,
    RunUsage,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    ToolFinished,
)
from domain.streams import PING, derived_id
from projections.letta import (
    Step,
    approval_request,
    compaction_event,
    delta_message,
    event_message,
    is_shown,
    part_message,
    ping,
    summary_message,
    tool_return,
)
from projections.wire import ErrorShown, EventMessage, Output, SummaryMessage, UsageShown

DONE: Final = b"data: [DONE]\n\n"


class Sent(NamedTuple):
    """What a fact has a client be sent: SSE bytes, numbered or not; `end` closes the stream."""

    seq_id: int | None
    data: bytes
    end: bool = False


def sse(frame: Mapping[str, Any], event: str | None = None) -> bytes:
    """Spell a frame as a server-sent event."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + orjson.dumps(frame) + b"\n\n"


def superseded_of(facts: Iterable[Recorded[Any]]) -> frozenset[int]:
    """Name the steps whose deltas later readers do not get."""
    return frozenset(fact.event.s for fact in facts if isinstance(fact.event, StepSuperseded))


class Frames:
    """Folds the facts of one conversation into the frames of one of its runs.

    Feed it every fact of the stream from the run's `run.queued` on, in order.
    """

    def __init__(self, run_id: str, skipped: frozenset[int] = frozenset()) -> None:
        self._run_id = run_id
        self._skipped = skipped
        self._request = RunRequest()
        self._steps: dict[int, Step] = {}
        self._calls: dict[tuple[int, int], str] = {}
        self._gated: set[tuple[int, int]] = set()
        self._asked: dict[int, list[StepPart]] = {}
        # The run itself, and the one that a steer's messages went into.
        self._run_ids = {run_id}
        self._waiting: set[int] = set()
        # The steps after which compactions began.
        self._compacting: dict[str, int | None] = {}
        # The runs that its end led to.
        self._led_to: list[str] = []

    def of(self, fact: Recorded[Any]) -> Sent | None:  # noqa: C901 - one case a fact
        """Give what this fact has the client be sent, None if nothing."""
        match fact.event:
            case StepDelta() as event if event.s in self._steps:
                return self._delta(fact, event)
            case StepPart() as event if event.s in self._steps:
                return self._part(fact, event)
            case RunQueued() as event if event.run_id == self._run_id:
                return self._queued(fact, event)
            case StepStarted() as event if event.run_id in self._run_ids:
                self._steps[fact.version] = Step.of(fact)
            case StepFinished() as event if event.s in self._steps:
                return self._requests(fact, event)
            case ToolFinished() as event if event.run_id in self._run_ids:
                return self._numbered(fact, tool_return(fact, fact.version))
            case WindowCompactionStarted() as event if event.run_id in self._run_ids:
                self._compacting[event.compaction_id] = event.s
                return self._compaction(fact, compaction_event(fact, self._step_id(event.s)))
            case WindowCompacted() as event if event.run_id in self._run_ids:
                return self._compaction(fact, self._summary(fact, event))
            case MessageQueued() as event if event.run_id == self._run_id:
                self._waiting.add(fact.version)
            case MessageAppended() as event if event.queued in self._waiting:
                self._run_ids.add(event.run_id)
            case StepSuperseded() as event if event.s in self._steps:
                return self._superseded(fact, event)
            case ConsolidationQueued() as event if event.after_run in self._run_ids:
                self._led_to.append(event.run_id)
            case RunFinished() as event if event.run_id == self._run_id:
                return Sent(None, ending(event, self._led_to), end=True)
            case _:
                pass
        return None

    def _queued(self, fact: Recorded[Any], event: RunQueued) -> Sent | None:
        self._request = event.request
        if not event.request.pings:
            return None
        return Sent(
            fact.version, sse(ping(derived_id(PING, fact.id), fact.at, event.run_id, fact.version))
        )

    def _delta(self, fact: Recorded[Any], event: StepDelta) -> Sent | None:
        if not self._request.stream_tokens or event.s in self._skipped:
            return None
        step, part = self._steps[event.s], (event.s, event.i)
        if event.call is not None:
            self._calls[part] = event.call.id
            if event.call.name in step.gated:
                self._gated.add(part)
        if part in self._gated:
            return None
        call_id = self._calls.get(part)
        return self._numbered(fact, delta_message(step, event, call_id, fact.version))

    def _part(self, fact: Recorded[Any], event: StepPart) -> Sent | None:
        if event.call is not None and event.call.gated and not event.interrupted:
            self._asked.setdefault(event.s, []).append(event)
        if self._request.stream_tokens or not is_shown(event):
            return None
        return self._numbered(fact, part_message(self._steps[event.s], event, fact.version))

    def _requests(self, fact: Recorded[Any], event: StepFinished) -> Sent | None:
        """Ask the client for all calls of the step at once: they are answered at once."""
        asked = self._asked.pop(event.s, None)
        if asked is None or event.outcome != "ok":
            return None
        return self._numbered(fact, approval_request(self._steps[event.s], asked, fact.version))

    def _superseded(self, fact: Recorded[Any], event: StepSuperseded) -> Sent | None:
        if not self._request.stream_tokens or not self._wanted("event_message"):
            return None
        step = self._steps[event.s]
        data = {
            "reason": event.reason,
            "attempt": event.attempt,
            "attempts_max": event.attempts_max,
            "delay_ms": event.delay_ms,
            "superseded_message_id": step.message_id,
        }
        return Sent(fact.version, sse(event_message(fact, "retry", data, step)))

    def _summary(self, fact: Recorded[Any], event: WindowCompacted) -> SummaryMessage:
        return summary_message(
            fact, self._step_id(self._compacting.get(event.compaction_id)), fact.version
        )

    def _step_id(self, s: int | None) -> str | None:
        step = None if s is None else self._steps.get(s)
        return None if step is None else step.step_id

    def _compaction(
        self, fact: Recorded[Any], message: SummaryMessage | EventMessage
    ) -> Sent | None:
        """Tell of a compaction, if that was asked for."""
        wanted = self._request.compaction_messages and self._wanted(message["message_type"])
        return Sent(fact.version, sse(message)) if wanted else None

    def _numbered(self, fact: Recorded[Any], message: Output) -> Sent | None:
        if not self._wanted(message["message_type"]):
            return None
        return Sent(fact.version, sse(message))

    def _wanted(self, message_type: str) -> bool:
        return self._request.filters is None or message_type in self._request.filters


def ending(event: RunFinished, led_to: Sequence[str] = ()) -> bytes:
    """Give the unnumbered frames that close a run: written at once, sent whole."""
    stop = sse({"message_type": "stop_reason", "stop_reason": event.stop_reason})
    if event.error is not None:
        return stop + sse(error_shown(event), "error") + DONE
    if event.status == "cancelled":
        return stop + DONE
    return stop + sse(usage_shown(event.usage, led_to)) + DONE


def error_shown(event: RunFinished) -> ErrorShown:
    """Show why a run failed."""
    error = event.error
    return {
        "message_type": "error_message",
        "run_id": event.run_id,
        "error_type": "internal_error" if error is None else error.error_type,
        "message": "" if error is None else error.message,
        "detail": None if error is None else error.detail,
        "seq_id": None,
    }


def usage_shown(usage: RunUsage, led_to: Sequence[str] = ()) -> UsageShown:
    """Show the tokens of a run, and name the runs that its end led to."""
    return {
        "message_type": "usage_statistics",
        "completion_tokens": usage.output_tokens,
        "prompt_tokens": usage.input_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "step_count": usage.step_count,
        "run_ids": [*led_to] or None,
        "cached_input_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "context_tokens": usage.context_tokens,
    }
