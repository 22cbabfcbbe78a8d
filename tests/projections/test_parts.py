from domain.content import Reasoning, Redacted, Text, ToolCall
from domain.run import CalledTool, DeltaCall, StepDelta, StepPart
from projections.parts import interrupted_parts, stored_parts

WEATHER = DeltaCall(id="call-1", name="weather")


def test_parts_are_stored_in_order_with_their_index() -> None:
    said = (
        Reasoning(text="hm", signature="signed"),
        Reasoning(text="so"),
        Redacted(data="secret"),
        Text(text="Good day."),
        ToolCall(id="call-1", name="weather", arguments="{}"),
    )
    assert stored_parts(5, said) == (
        StepPart(s=5, i=0, kind="reasoning", text="hm", signature="signed"),
        StepPart(s=5, i=1, kind="reasoning", text="so"),
        StepPart(s=5, i=2, kind="redacted", text="secret"),
        StepPart(s=5, i=3, kind="text", text="Good day."),
        StepPart(
            s=5, i=4, kind="call", call=CalledTool(id="call-1", name="weather", arguments="{}")
        ),
    )


def test_a_part_without_a_signature_stores_none() -> None:
    (part,) = stored_parts(5, [Reasoning(text="so")])
    assert "signature" not in part.model_fields_set


def test_interrupted_text_is_exactly_its_deltas() -> None:
    deltas = [StepDelta(s=5, i=0, kind="text", x=x) for x in ("Good ", "", "da")]
    assert interrupted_parts(5, deltas) == (
        StepPart(s=5, i=0, kind="text", text="Good da", interrupted=True),
    )


def test_interrupted_parts_are_in_the_order_of_their_index_however_their_deltas_came() -> None:
    deltas = [
        StepDelta(s=5, i=1, kind="text", x="b"),
        StepDelta(s=5, i=0, kind="reasoning", x="a"),
        StepDelta(s=5, i=1, kind="text", x="c"),
    ]
    assert interrupted_parts(5, deltas) == (
        StepPart(s=5, i=0, kind="reasoning", text="a", interrupted=True),
        StepPart(s=5, i=1, kind="text", text="bc", interrupted=True),
    )


def test_a_signature_is_kept_apart_from_the_reasoning_that_it_signs() -> None:
    deltas = [
        StepDelta(s=5, i=0, kind="reasoning", x="hm"),
        StepDelta(s=5, i=0, kind="signature", x="sig"),
        StepDelta(s=5, i=0, kind="signature", x="ned"),
    ]
    assert interrupted_parts(5, deltas) == (
        StepPart(s=5, i=0, kind="reasoning", text="hm", signature="signed", interrupted=True),
    )


def test_a_signature_alone_is_reasoning_without_words() -> None:
    deltas = [StepDelta(s=5, i=0, kind="signature", x="signed")]
    assert interrupted_parts(5, deltas) == (
        StepPart(s=5, i=0, kind="reasoning", text="", signature="signed", interrupted=True),
    )


def test_interrupted_redacted_reasoning_stays_redacted() -> None:
    deltas = [StepDelta(s=5, i=0, kind="redacted", x="secret")]
    assert interrupted_parts(5, deltas) == (
        StepPart(s=5, i=0, kind="redacted", text="secret", interrupted=True),
    )


def test_an_interrupted_call_keeps_its_name_and_the_arguments_so_far() -> None:
    deltas = [
        StepDelta(s=5, i=0, kind="arguments", x="", call=WEATHER),
        StepDelta(s=5, i=0, kind="arguments", x='{"ci'),
    ]
    called = CalledTool(id="call-1", name="weather", arguments='{"ci')
    assert interrupted_parts(5, deltas) == (
        StepPart(s=5, i=0, kind="call", call=called, interrupted=True),
    )


def test_nothing_said_leaves_no_parts() -> None:
    assert interrupted_parts(5, []) == ()
    assert stored_parts(5, []) == ()
