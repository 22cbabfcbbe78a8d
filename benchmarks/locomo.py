"""Plays long real conversations through letta-client over connections that break.

The folder is that of LoCoMo's conversations, given as the argument or in EVERLOG_LOCOMO. One
speaker is the user, the other the model. Ends with 1 if a single byte differs.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from benchmarks.replaying import Exchange, Tally, play

CONVERSATIONS: Final = ("26", "41", "50")
# Where a conversation begins with the one who plays the model, or ends with the other.
OPENING: Final = "(You begin.)"
CLOSING: Final = "(The end.)"
COLUMNS: Final = (
    ("conversation", 12),
    ("turns", 6),
    ("replies", 8),
    ("cuts", 6),
    ("in a frame", 11),
    ("frames", 8),
    ("bytes compared", 15),
    ("mismatches", 11),
    ("seconds", 8),
)
SHOWN_MISMATCHES_MAX: Final = 20


def turns_of(conversation: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """Give the turns of all sessions in order: whether it is the user's, and its text."""
    numbers = (key.removeprefix("session_") for key in conversation if key.startswith("session_"))
    for number in sorted(int(number) for number in numbers if number.isdigit()):
        for turn in conversation[f"session_{number}"]:
            yield turn["speaker"] == conversation["speaker_a"], turn["text"]


def exchanges_of(turns: Sequence[tuple[bool, str]]) -> list[Exchange]:
    """Pair what the user says with the answer; turns in a row stay messages of their own."""
    found: list[Exchange] = []
    asked: tuple[str, ...] = ()
    for by_user, group in groupby(turns, key=lambda turn: turn[0]):
        texts = tuple(text for _, text in group)
        if by_user:
            asked = texts
        else:
            found.append(Exchange(asked or (OPENING,), texts))
            asked = ()
    return [*found, Exchange(asked, (CLOSING,))] if asked else found


def row_of(name: str, turns: int, tally: Tally) -> tuple[str, ...]:
    """Give a line of the table."""
    counts = (turns, tally.replies, tally.cuts, tally.cuts_in_frames, tally.frames)
    return (
        name,
        *map(str, counts),
        f"{tally.bytes_compared:,}",
        str(len(tally.mismatches)),
        f"{tally.seconds:.1f}",
    )


def print_row(cells: Sequence[str]) -> None:
    """Print cells under their columns, numbers to the right."""
    widths = [width for _, width in COLUMNS]
    first, *others = zip(cells, widths, strict=True)
    line = first[0].ljust(first[1]) + "".join(cell.rjust(width) for cell, width in others)
    print(line, flush=True)


def run(folder: Path, turns_max: int | None, seed: int) -> int:
    """Play the conversations; give the number of mismatches."""
    mismatches: list[str] = []
    print_row([name for name, _ in COLUMNS])
    for name in CONVERSATIONS:
        conversation = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        turns = list(turns_of(conversation))[:turns_max]
        with tempfile.TemporaryDirectory(prefix="everlog-") as home:
            tally = play(exchanges_of(turns), Path(home) / "played.db", seed)
        print_row(row_of(name, len(turns), tally))
        mismatches += [f"{name}, {what}" for what in tally.mismatches]
    for what in mismatches[:SHOWN_MISMATCHES_MAX]:
        print(what)
    return len(mismatches)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("EVERLOG_LOCOMO"))
    parser.add_argument("--turns", type=int, help="only the first so many of each conversation")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.folder is None:
        parser.error("name the folder of the conversations, or set EVERLOG_LOCOMO")
    sys.exit(1 if run(Path(asked.folder), asked.turns, asked.seed) else 0)


if __name__ == "__main__":
    main()
