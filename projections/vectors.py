"""What texts mean, as vectors: how they are kept, which are near, and two orders made one.

A vector is kept twice: whole, and as the signs of its numbers, one bit each. Among many the near ones
are found by how few signs differ, which is a matter of counting bits, and only those are measured.
"""

from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from math import isfinite, sqrt
from operator import mul
from sys import byteorder
from typing import Final, TypeAlias

# Numbers of four bytes.
Vector: TypeAlias = Sequence[float]

# How much the first places of an order count above later ones; the usual figure.
RANK_CONSTANT: Final = 60


def unit(numbers: Iterable[float]) -> Vector:
    """Give a vector of length 1; one of zeros stays so. Raises ValueError for what is no number."""
    vector = array("f", numbers)
    length = sqrt(sum(map(mul, vector, vector)))
    if not isfinite(length):
        raise ValueError("a vector needs finite numbers")
    if not length:
        return vector
    return array("f", (one / length for one in vector))


def packed(vector: Vector) -> str:
    """Spell a vector as text: its numbers in four bytes each, the lowest first, in base64."""
    numbers = array("f", vector)
    if byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode()


def unpacked(text: str) -> Vector:
    """Read a vector back."""
    vector = array("f")
    vector.frombytes(b64decode(text))
    if byteorder == "big":
        vector.byteswap()
    return vector


def signs_of(vector: Vector) -> str:
    """Spell which numbers of a vector are above zero, in hexadecimal."""
    return f"{int('1' + ''.join('01'[one > 0] for one in vector), 2):x}"


def similarity(one: Vector, other: Vector) -> float:
    """Tell how alike two vectors of length 1 are: from -1 to 1; 0 if they cannot be compared."""
    return sum(map(mul, one, other)) if len(one) == len(other) else 0.0


def likeliest(signs: Mapping[int, str], vector: Vector, most: int) -> list[int]:
    """Give the versions whose signs differ from a vector's in the fewest places, at most so many."""
    asked = int(signs_of(vector), 16)
    apart = ((int(one, 16) ^ asked).bit_count() for one in signs.values())
    return [version for _, version in nsmallest(most, zip(apart, signs, strict=True))]


def fused(orders: Sequence[Sequence[int]]) -> list[tuple[int, float]]:
    """Make several orders one, with scores: a place counts by its rank alone, of equals the newest.

    Scores of different searches cannot be compared; ranks can.
    """
    scores: dict[int, float] = {}
    for order in orders:
        for rank, version in enumerate(order, start=1):
            scores[version] = scores.get(version, 0.0) + 1 / (RANK_CONSTANT + rank)
    return sorted(scores.items(), key=lambda one: (-one[1], -one[0]))
