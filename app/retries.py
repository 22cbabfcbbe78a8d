"""When a failed model call is worth another try: only before it has said anything."""

from dataclasses import dataclass
from typing import Final

from app.providers import ModelError
from domain.run import ATTEMPTS_MAX

# Failures that pass by themselves. A timeout is not among them: it has cost enough already.
PASSING: Final = frozenset({"llm_rate_limit", "llm_error", "stream_incomplete"})
# A vendor that asks for more patience than this is not waited for: the client is told at once.
RETRY_AFTER_S_MAX: Final = 30.0
MS_PER_S: Final = 1000


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and after which pauses; the log's note of each is `step.superseded`."""

    first_pause_s: float = 0.5
    attempts_max: int = ATTEMPTS_MAX

    def pause_ms(self, error: ModelError, attempt: int) -> int | None:
        """Tell how long to wait before the next attempt, None if there is to be none.

        The pause doubles each time, unless the vendor has said how long it should be.
        """
        if error.error_type not in PASSING or attempt >= self.attempts_max:
            return None
        asked_s = error.retry_after_s
        if asked_s is not None and asked_s > RETRY_AFTER_S_MAX:
            return None
        pause_s = self.first_pause_s * 2 ** (attempt - 1) if asked_s is None else asked_s
        return round(pause_s * MS_PER_S)
