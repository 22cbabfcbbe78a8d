"""Any interleaving of edits, of calls that are run again, and of others' changes applies a call once."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from domain.block import Block, BlockChanged, ChangeBlock, EditBlock, block
from domain.block_edits import Edit, Insertion, Replacement, Rewriting
from domain.errors import Refused
from domain.run import Cause
from tests.examples import CONVERSATION_ID, OTHER_CONVERSATION_ID, block_created

WORDS = st.sampled_from(["a", "b", "a b", "", "c\nd"])
EDITS: st.SearchStrategy[Edit] = (
    st.builds(Insertion, WORDS, st.none() | st.integers(0, 3))
    | st.builds(Replacement, WORDS, WORDS)
    | st.builds(Rewriting, WORDS)
)
# A call always asks for the same edit, however often it is run.
CALLS = st.dictionaries(
    st.builds(
        Cause,
        stream=st.sampled_from([CONVERSATION_ID, OTHER_CONVERSATION_ID]),
        offset=st.integers(1, 5),
    ),
    EDITS,
    max_size=6,
)


@given(CALLS, st.data())
def test_a_call_is_applied_once_however_often_it_is_run(
    calls: dict[Cause, Edit], data: st.DataObject
) -> None:
    commands = [EditBlock(edit, cause) for cause, edit in calls.items()]
    people = [ChangeBlock({"value": word}) for word in ("a", "x\ny")]
    state, applied = block.evolve(Block(), block_created, 1), Counter[Cause]()
    for command in data.draw(st.lists(st.sampled_from([*commands, *people]), max_size=30)):
        try:
            facts = block.decide(state, command)
        except Refused:
            continue
        for fact in facts:
            assert isinstance(fact, BlockChanged)
            assert fact.base_version == state.version
            if fact.cause is not None:
                applied[fact.cause] += 1
            state = block.evolve(state, fact, state.version + 1)
    assert set(applied.values()) <= {1}
