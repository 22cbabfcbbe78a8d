"""What was said in a stretch of a conversation, whatever of it is in the window."""

from typing import Final

from app.storage.lineages import Chain
from app.storage.store import Store
from app.windows import marks_at
from projections.consolidation import Stretch, stretch_of
from projections.marks import Marks
from projections.window import FOLDED, window_from

# How far one consolidation looks, and how far back for what was said just before.
OFFSETS_MAX: Final = 50_000
OFFSETS_BEFORE: Final = 400
# The transcript takes a part of the model's window, the rest is for the work.
CHARS_PER_TOKEN: Final = 1.5
CONTEXT_WINDOW: Final = 128_000
TRANSCRIPT_CHARS_MIN, TRANSCRIPT_CHARS_MAX = 4_000, 240_000


def stretch_at(store: Store, stream: str, after: int, at: int) -> Stretch:
    """Read what was said after an offset, evicted or not, and how far it is complete. Blocks.

    What was rolled back, or taken out by a reset, was never said.
    """
    upto = min(at, after + OFFSETS_MAX)
    marks = marks_at(store, stream, at)
    begin = max(0, after - OFFSETS_BEFORE, marks.unlisted or 0)
    # A fork's calls may have been made by an ancestor's step: their returns name it.
    chain = Chain(store, stream, marks.lineage)
    rows = chain.pieces([(begin, upto)], FOLDED)
    folded = Marks(hidden=marks.hidden, lineage=marks.lineage)
    window = window_from(folded, map(chain.fact, rows))
    upto = min([upto, *(s - 1 for s in window.open_steps if s > after)])
    return stretch_of(window.items, after, upto)


def chars_max(context_window: int) -> int:
    """Tell how many characters a model is shown; its window is in tokens, 0 if nobody knows."""
    chars = int((context_window or CONTEXT_WINDOW) * CHARS_PER_TOKEN)
    return min(max(chars, TRANSCRIPT_CHARS_MIN), TRANSCRIPT_CHARS_MAX)
