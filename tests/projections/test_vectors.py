from math import inf, isclose, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.vectors import (
    fused,
    likeliest,
    packed,
    signs_of,
    similarity,
    unit,
    unpacked,
)

NUMBERS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40)


@given(NUMBERS)
def test_a_vector_is_read_as_it_was_kept(numbers: list[float]) -> None:
    vector = unit(numbers)
    assert unpacked(packed(vector)) == vector


@given(NUMBERS)
def test_a_vector_is_as_like_itself_as_can_be(numbers: list[float]) -> None:
    vector = unit(numbers)
    alike = similarity(vector, vector)
    assert isclose(alike, 1.0, abs_tol=1e-4) or alike == 0.0


def test_lengths_do_not_count_and_opposites_are_opposite() -> None:
    assert isclose(similarity(unit([1, 2]), unit([10, 20])), 1.0, abs_tol=1e-6)
    assert isclose(similarity(unit([1, 2]), unit([-1, -2])), -1.0, abs_tol=1e-6)
    assert similarity(unit([1, 0]), unit([0, 1])) == 0.0
    assert similarity(unit([0, 0]), unit([0, 1])) == 0.0


def test_vectors_of_different_size_are_not_alike() -> None:
    assert similarity(unit([1]), unit([1, 0])) == 0.0


@pytest.mark.parametrize("number", [nan, inf, -inf, 1e300])
def test_what_is_no_number_makes_no_vector(number: float) -> None:
    with pytest.raises((ValueError, OverflowError)):
        unit([1.0, number])


def test_signs_are_a_bit_each_behind_a_one() -> None:
    assert signs_of(unit([1, -1, 0, 2])) == f"{0b11001:x}"


def test_the_likeliest_are_among_those_that_are_nearest() -> None:
    random = Random(7)
    vectors = {number: unit(random.gauss(0, 1) for _ in range(256)) for number in range(500)}
    signs = {number: signs_of(vector) for number, vector in vectors.items()}
    kept = 0
    for number in range(20):
        asked = unit(one + random.gauss(0, 0.05) for one in vectors[number])
        nearest = max(vectors, key=lambda one: similarity(asked, vectors[one]))
        kept += nearest in likeliest(signs, asked, 20)
    assert kept == 20


def test_no_more_are_given_than_asked_for_and_none_of_none() -> None:
    vector = unit([1, -1])
    assert likeliest({1: signs_of(vector), 2: signs_of(unit([-1, 1]))}, vector, 1) == [1]
    assert likeliest({}, vector, 5) == []


def test_what_two_orders_have_in_common_comes_first() -> None:
    order = [version for version, _ in fused([[1, 2, 3], [4, 2, 5]])]
    assert order == [2, 4, 1, 5, 3]


@given(st.lists(st.lists(st.integers(0, 30), unique=True, max_size=10), max_size=3))
def test_one_order_of_several_has_each_once_and_scores_go_down(orders: list[list[int]]) -> None:
    both = fused(orders)
    assert {version for version, _ in both} == {one for order in orders for one in order}
    scores = [score for _, score in both]
    assert scores == sorted(scores, reverse=True)
    assert len(both) == len({version for version, _ in both})


def test_one_order_stays_as_it_is() -> None:
    assert [version for version, _ in fused([[3, 1, 2]])] == [3, 1, 2]
