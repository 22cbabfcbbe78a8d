"""What is said in a conversation or kept in an archive: each fact's words, as search knows them."""

import re
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from domain.archive import PassageInserted
from domain.content import text_of
from domain.conversation import MessageAppended
from domain.event import Recorded
from domain.run import CalledTool, StepPart, ToolFinished

# Of a longer text the rest is in the log and in the window, but not in the index.
TEXT_CHARS_MAX: Final = 100_000
# The tools by which a model looks back. What they say was said before: to find it again as theirs
# would bury it.
LOOKING_BACK: Final = frozenset({"conversation_search", "recall"})

Role: TypeAlias = Literal["user", "system", "assistant", "tool"]
Kind: TypeAlias = Literal["words", "call", "return"]

_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_QUOTED: Final = frozenset('"\\/')


class Said(NamedTuple):
    """A text: who said it when in which form, and the offset that names its item in the window."""

    place: int
    role: Role
    kind: Kind
    at: datetime
    text: str


def said_in(fact: Recorded[Any]) -> Said | None:
    """Give the words of a fact, None if it has none. Pictures and approvals have none."""
    said = _said_in(fact)
    if said is None or not said.text.strip():
        return None
    return said._replace(text=said.text[:TEXT_CHARS_MAX])


def _said_in(fact: Recorded[Any]) -> Said | None:
    match fact.event:
        case MessageAppended(role="user" | "system" | "assistant" as role) as event:
            text = text_of(event.content or "")
            return Said(fact.version, role, "words", event.said_at or fact.at, text)
        case PassageInserted(text=text):
            return Said(fact.version, "assistant", "words", fact.at, text)
        case StepPart(kind="text") as event:
            at = event.said_at or fact.at
            return Said(event.s, "assistant", "words", at, event.text or "")
        case StepPart(kind="call", call=CalledTool() as call) as event if not _looks_back(call):
            text = f"{call.name} {unescaped(call.arguments)}"
            return Said(event.s, "assistant", "call", event.said_at or fact.at, text)
        case ToolFinished() as event if not _looked_back(event):
            parts = (text_of(event.content), *(event.stdout or ()), *(event.stderr or ()))
            text = "\n".join(filter(None, parts))
            return Said(fact.version, "tool", "return", event.said_at or fact.at, text)
        case _:
            return None


def _looks_back(call: CalledTool) -> bool:
    return call.name in LOOKING_BACK and not call.gated


def _looked_back(event: ToolFinished) -> bool:
    return event.name in LOOKING_BACK and event.source != "client"


def unescaped(arguments: str) -> str:
    """Give JSON text with its escapes as what they stand for, so that words are whole.

    It need not be good JSON: a model wrote it, and perhaps only half of it.
    """
    return _ESCAPE.sub(_unescaped, arguments) if "\\" in arguments else arguments


def _unescaped(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return escape[2] if escape[2] in _QUOTED else " "
    character = chr(int(escape[1], 16))
    # Half of a surrogate pair is no character, and cannot be stored.
    return character if character.isalnum() else " "
