"""How a window is to be compacted."""

from typing import Any, Final, Literal, TypeAlias

from domain.event import Value

CompactionMode: TypeAlias = Literal[
    "all", "sliding_window", "self_compact_all", "self_compact_sliding_window"
]
# `import`: what had left its window before it came here.
CompactionTrigger: TypeAlias = Literal[
    "manual", "post_step_context_check", "context_window_exceeded", "import"
]

MODE_DEFAULT: Final[CompactionMode] = "sliding_window"
CLIP_CHARS_DEFAULT: Final = 50_000
PERCENTAGE_DEFAULT: Final = 0.3


class CompactionSettings(Value):
    """The settings of one compaction, after merging (contract section 8.2).

    `model` is the summariser's handle; null is the cheap one of the agent's provider, else the
    agent's own, as it always is in the self modes.
    `clip_chars` null is "do not clip". `sliding_window_percentage` is the share to evict.
    Below `min_retention` (0 to 1) an automatic compaction falls back, or is refused.
    """

    mode: CompactionMode = MODE_DEFAULT
    model: str | None = None
    model_settings: dict[str, Any] | None = None
    prompt: str
    prompt_acknowledgement: bool = False
    clip_chars: int | None = CLIP_CHARS_DEFAULT
    sliding_window_percentage: float = PERCENTAGE_DEFAULT
    min_retention: float | None = None
