"""How an agent's memory is consolidated: how often, into which block, on whose word."""

from typing import Final, Literal, TypeAlias

from domain.event import Value
from domain.streams import CONSOLIDATION, CONVERSATION, RUN

# Letta's own defaults (contract sections 13.1 and 13.3).
FREQUENCY_DEFAULT: Final = 5
MAX_STEPS_DEFAULT: Final = 10
LABEL_DEFAULT: Final = "human"
FREQUENCY_MAX: Final = 10_000
MAX_STEPS_MAX: Final = 50

ConsolidationTrigger: TypeAlias = Literal["user", "turns", "compaction"]
# `applied`: the block was changed; `proposed`: it will be if somebody accepts.
ConsolidationOutcome: TypeAlias = Literal["applied", "unchanged", "proposed", "failed", "cancelled"]


class Sleeptime(Value):
    """How consolidations are done: after `frequency` turns, and after a compaction if that is set.

    `block_label` null is the block `human`, else the first that may be written. `model` null is the
    agent's. With `require_acceptance` a consolidation proposes, and a person disposes.
    """

    frequency: int = FREQUENCY_DEFAULT
    after_compaction: bool = True
    block_label: str | None = None
    max_steps: int = MAX_STEPS_DEFAULT
    require_acceptance: bool = False
    model: str | None = None


class Consolidates(Value):
    """What a conversation is there for: to work what was said in another one into memory.

    That is what stands there at offsets `after` < offset <= `upto`, as it was seen at offset `at`.
    """

    conversation_id: str
    consolidation_id: str
    after: int
    upto: int
    at: int


def conversation_of(consolidation_id: str) -> str:
    """Name the conversation in which a consolidation is done."""
    return f"{CONVERSATION}-{consolidation_id.split('-', 1)[1]}"


def conversation_doing(run_id: str) -> str:
    """Name the conversation that a run is in if it does a consolidation."""
    return f"{CONVERSATION}-{run_id.split('-', 1)[1]}"


def consolidation_of(run_id: str) -> str:
    """Name the consolidation that a run does if it does one."""
    return f"{CONSOLIDATION}-{run_id.split('-', 1)[1]}"


def run_of(consolidation_id: str) -> str:
    """Name the run that does a consolidation."""
    return f"{RUN}-{consolidation_id.split('-', 1)[1]}"
