"""The answer's parts, as the API has them."""

from datetime import datetime
from typing import Literal, TypeAlias

from domain.compaction import CompactionMode, CompactionTrigger
from domain.conversation import Inherited
from domain.event import Value
from domain.run import Span
from projections.audit import CompactionStatus
from projections.search_texts import Kind
from projections.why.times import Stay
from projections.why.words import Closeness

Verdict: TypeAlias = Literal["never_said", "in_window", "summarised", "evicted", "erased"]
# Where a model finds something: before its eyes, in a summary before its eyes, by its tools
# `conversation_search` and `recall`, or nowhere: what was rolled back is in the log alone.
Reachable: TypeAlias = Literal["window", "summary", "search", "log"]
Asked: TypeAlias = Literal["phrase", "message", "tool_call"]
Role: TypeAlias = Literal["user", "system", "assistant", "tool", "summary"]


class Survivor(Value):
    """A summary, recorded at `offset` (of `stream`), that has what was said, in its own `words`.

    `share` is how many of the telling words of a message it has; of a phrase it has all. It is
    `current` if the model sees it now.
    """

    compaction_id: str
    summary_message_id: str
    offset: int
    stream: Inherited = None
    words: tuple[str, ...]
    share: float
    current: bool
    status: CompactionStatus


class Link(Value):
    """A compaction that evicted something, or the summary of the link before; what it kept of it."""

    compaction_id: str
    offset: int
    stream: Inherited = None
    kept: bool
    current: bool


class Evictor(Value):
    """The compaction that evicted something: how it came to that, in short.

    `settings_share` is that of the sliding window's setting; `share`, `cut`, `goal` and
    `tokens_left` are those of the last place that was tried for a cut. `at` is when, `planned_at`
    the offset of the window it was planned on.
    """

    compaction_id: str
    offset: int
    stream: Inherited = None
    at: datetime
    by: str
    planned_at: int
    run_id: str | None
    ranges: tuple[Span, ...]
    trigger: CompactionTrigger
    mode: CompactionMode
    model: str
    settings_share: float
    min_retention: float | None
    share: float | None
    cut: int | None
    goal: int | None
    tokens_left: int | None
    tokens_before: int
    tokens_after: int
    context_window: int
    messages_before: int
    messages_after: int
    retention: float


class Occurrence(Value):
    """A place where it was said: `offset` names it in the window.

    `match` tells how close together the words stand there. `evicted_at` is the offset of the
    compaction that keeps it out of the window. `chain` goes from that one to the summary that stands
    for it now. In a fork, an offset is that of the `stream` beside it if it was inherited.
    """

    offset: int
    stream: Inherited = None
    message_id: str
    role: Role
    kind: Kind
    at: datetime
    text: str
    match: Closeness | None = None
    in_window: bool
    pinned: bool = False
    rolled_back_at: int | None = None
    rolled_back_stream: Inherited = None
    evicted_at: int | None = None
    evicted_stream: Inherited = None
    compaction_id: str | None = None
    compaction: Evictor | None = None
    chain: tuple[Link, ...] = ()
    survives_in: tuple[Survivor, ...] = ()
    reachable: Reachable
    windows: tuple[Stay, ...] = ()


class Swapped(Value):
    """A word that nobody said, and the one that was looked for instead."""

    word: str
    instead: str


class Near(Value):
    """What comes closest to something that nobody said: which of its words were said there."""

    offset: int
    stream: Inherited = None
    role: Role
    at: datetime
    text: str
    words: tuple[str, ...]


class WhyAnswer(Value):
    """The verdict on something said, as of offset `at`, in a sentence and in full.

    Of `total` occurrences those that tell most come first: in the window, evicted, rolled back; the
    newest of each. The verdict is over all of them. If not `complete`, there are so many that only
    the newest were looked at. `only_in_summaries` has words that nobody had said before. A phrase
    may be in the system prompt: `system_at` is the offset of the fact that holds it.
    """

    query: str
    asked: Asked
    verdict: Verdict
    sentence: str
    at: int
    total: int
    complete: bool = True
    occurrences: tuple[Occurrence, ...] = ()
    only_in_summaries: tuple[Survivor, ...] = ()
    system_at: int | None = None
    corrections: tuple[Swapped, ...] = ()
    closest: tuple[Near, ...] = ()
