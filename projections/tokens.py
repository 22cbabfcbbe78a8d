"""How many tokens something is: what vendors reported, an estimate for the rest."""

from typing import Final

# The original's approximate counter (contract section 8.4): four bytes a token, then a margin.
BYTES_PER_TOKEN: Final = 4
MARGIN: Final = 1.3


def estimate(text: str) -> int:
    """Estimate the tokens of a text from its size in UTF-8."""
    return round(len(text.encode()) / BYTES_PER_TOKEN * MARGIN)
