"""How many tokens a context has: as reported, as counted by the vendor, or as estimated."""

from dataclasses import dataclass
from typing import Final, Literal

from app.providers import Provider
from domain.run import CROWDED_SHARE
from projections.tokens import tokens_of_request
from projections.turns import ModelRequest

# How near to the limit, as a share of it, an estimate leaves it open on which side a request is. By
# `benchmarks/estimating.py` chat is estimated some 40 % too high, ids and base64 half too low: whoever
# must be sure takes a wider band.
DOUBT_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Counted:
    """A number of tokens, and whose word it is."""

    tokens: int
    source: Literal["reported", "counted", "estimated"]


async def context_tokens(  # noqa: PLR0913 - the two shares have usual values
    provider: Provider,
    request: ModelRequest,
    context_window: int,
    reported: int | None,
    *,
    estimated: int | None = None,
    full_share: float = CROWDED_SHARE,
    doubt_share: float = DOUBT_SHARE,
) -> Counted:
    """Tell how many tokens a request has, asking the vendor only where it decides something.

    What was `reported` for it wins. Else an estimate will do, the one given or our own, but within `doubt_share` of the limit,
    which is `full_share` of the window, the vendor is asked; without its answer the estimate stands.
    """
    if reported is not None:
        return Counted(reported, "reported")
    if estimated is None:
        estimated = tokens_of_request(request)
    limit = full_share * context_window
    if abs(estimated - limit) <= doubt_share * limit:
        counted = await provider.count_tokens(request)
        if counted is not None:
            return Counted(counted, "counted")
    return Counted(estimated, "estimated")
