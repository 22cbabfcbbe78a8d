"""How long a step took: told by the times of its facts, which never go back in a stream."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from domain.event import Recorded
from domain.run import StepFinished, StepStarted, StepSuperseded, ToolFinished, ToolStarted

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TICK: Final = timedelta(microseconds=1)


def nanoseconds(time: timedelta) -> int:
    """Give a time in nanoseconds; facts tell microseconds."""
    return time // TICK * 1_000


@dataclass(frozen=True, slots=True)
class StepTimes:
    """When a step began, when its model had replied, and when the last of its calls had returned.

    `running` are the calls that the server is at, each with its beginning; `tools` is how long it
    was at those that are over, None if there are none. A reply whose end nobody saw is `lost`.
    """

    began: datetime | None = None
    replied: datetime | None = None
    returned: datetime | None = None
    tools: timedelta | None = None
    lost: bool = False
    running: dict[str, datetime] = field(default_factory=dict[str, datetime])

    @property
    def began_ns(self) -> int | None:
        """When it began, in nanoseconds since 1970."""
        return None if self.began is None else nanoseconds(self.began - EPOCH)

    @property
    def reply_ns(self) -> int | None:
        """How long the model took, None before its end and where nobody knows."""
        return self._until(self.replied)

    @property
    def tools_ns(self) -> int | None:
        """How long the server was at its tools, one after the other; None if it ran none."""
        return None if self.tools is None else nanoseconds(self.tools)

    @property
    def whole_ns(self) -> int | None:
        """How long the step took with its tools, None before its end and where nobody knows."""
        return None if self.running else self._until(self.returned or self.replied)

    def _until(self, end: datetime | None) -> int | None:
        if self.began is None or end is None or self.lost:
            return None
        return nanoseconds(end - self.began)


def times_of(facts: Iterable[Recorded[Any]], s: int) -> StepTimes:
    """Tell how long step `s` took, from the facts of its run that came with it and after it.

    What clients ran is not counted: nobody here knows how long that took.
    """
    times = StepTimes()
    for fact in facts:
        match fact.event:
            case StepStarted() if fact.version == s:
                times = replace(times, began=fact.at)
            case StepFinished() | StepSuperseded() as event if event.s == s:
                lost = isinstance(event, StepSuperseded) and event.reason == "taken_over"
                times = replace(times, replied=fact.at, lost=lost)
            # With a `stream` it is a call of an ancestor's step.
            case ToolStarted(stream=None) as event if event.s == s:
                times = replace(times, running={**times.running, event.tool_call_id: fact.at})
            case ToolFinished(s=at, stream=None) as event if at == s:
                times = _returned(times, event, fact.at)
            case _:
                pass
    return times


def _returned(times: StepTimes, event: ToolFinished, at: datetime) -> StepTimes:
    running = dict(times.running)
    since = running.pop(event.tool_call_id, None)
    if since is None or event.source != "server":  # a client's, or it broke off, nobody knows when
        return replace(times, running=running)
    spent = (times.tools or timedelta()) + (at - since)
    return replace(times, running=running, tools=spent, returned=at)
