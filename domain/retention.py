"""What of the messages that left a window a summary has kept, by kinds of things said."""

from typing import Literal, TypeAlias

from domain.event import Value

Kind: TypeAlias = Literal[
    "name",
    "number",
    "date",
    "money",
    "path",
    "url",
    "email",
    "identifier",
    "command",
    "code",
    "quote",
    "question",
    "promise",
]


class KindRetention(Value):
    """How many different things of one kind were said, and how many of them are in the summary.

    `kept_items` and `lost_items` name them as they were said, those said most often first, and no
    more of them than fit.
    """

    found: int
    kept: int
    kept_items: tuple[str, ...] = ()
    lost_items: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """The share that was kept, from 0 to 1."""
        return self.kept / self.found


class Retention(Value):
    """What was kept of everything, and of each kind of which there was something.

    `score` is the share of all things found that was kept, from 0 to 1; 1 if there were none.
    """

    score: float
    kinds: dict[Kind, KindRetention]
