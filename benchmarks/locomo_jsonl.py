"""Turns LoCoMo's conversations into files that `everlog import` reads.

The folder is that of the conversations, given as the first argument or in EVERLOG_LOCOMO; the files
go into the folder given as the last. One speaker is the user, the other the model. Beside each
`26.jsonl` lies `26.places.json`: for each turn's `dia_id`, the number of its message, from 0.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks.locomo import CONVERSATIONS

DATES: Final = "%I:%M %p on %d %B, %Y"
BETWEEN_TURNS: Final = timedelta(minutes=1)
MODEL: Final = "demo/echo"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker said at once; dates are taken as of UTC, for want of a place."""

    dia_id: str
    by_user: bool
    words: str
    at: datetime


def turns_of(conversation: dict[str, Any]) -> Iterator[Turn]:
    """Give the turns of all sessions in order, a minute after each other from a session's begin."""
    numbers = (key.removeprefix("session_") for key in conversation if key.startswith("session_"))
    for number in sorted(int(number) for number in numbers if number.isdigit()):
        at = begin_of(conversation[f"session_{number}_date_time"])
        for turn in conversation[f"session_{number}"]:
            by_user = turn["speaker"] == conversation["speaker_a"]
            yield Turn(turn["dia_id"], by_user, words_of(turn), at)
            at += BETWEEN_TURNS


def begin_of(words: str) -> datetime:
    """Read a session's date, such as `1:56 pm on 8 May, 2023`."""
    return datetime.strptime(words, DATES).replace(tzinfo=UTC)


def words_of(turn: dict[str, Any]) -> str:
    """Give what was said, and in brackets what is to be seen in a picture that was sent."""
    caption = turn.get("blip_caption")
    return turn["text"] if caption is None else f"{turn['text']} [{caption}]"


def lines_of(name: str, conversation: dict[str, Any], turns: list[Turn]) -> Iterator[str]:
    """Give the lines of a file."""
    user, model = conversation["speaker_a"], conversation["speaker_b"]
    agent = {"name": model, "model": MODEL, "system": f"You are {model} and talk with {user}."}
    header = {"id": f"locomo-{name}", "agent": agent, "summary": f"{user} and {model}"}
    yield json.dumps({"conversation": header}, ensure_ascii=False)
    for turn in turns:
        role = "user" if turn.by_user else "assistant"
        said = {"role": role, "content": turn.words, "date": turn.at.isoformat()}
        yield json.dumps(said, ensure_ascii=False)


def convert(name: str, source: Path, target: Path) -> int:
    """Write one conversation's files; give the number of its turns."""
    read = json.loads((source / f"{name}.json").read_text(encoding="utf-8"))
    conversation = read.get("conversation", read)
    turns = list(turns_of(conversation))
    lines = "".join(f"{line}\n" for line in lines_of(name, conversation, turns))
    (target / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    places = {turn.dia_id: place for place, turn in enumerate(turns)}
    (target / f"{name}.places.json").write_text(json.dumps(places), encoding="utf-8")
    if len(places) != len(turns):
        sys.exit(f"{name}: {len(turns)} turns have only {len(places)} different dia_ids")
    return len(turns)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("EVERLOG_LOCOMO"))
    parser.add_argument("target", type=Path)
    asked = parser.parse_args()
    if asked.folder is None:
        parser.error("name the folder of the conversations, or set EVERLOG_LOCOMO")
    asked.target.mkdir(parents=True, exist_ok=True)
    for name in CONVERSATIONS:
        print(f"{name}: {convert(name, Path(asked.folder), asked.target)} turns")


if __name__ == "__main__":
    main()
