"""What facts change in the read tables."""

from domain.conversation import Parent
from domain.event import Recorded
from projections.patches import Patch, patches_of
from tests.examples import AT, BODY_HASH, BY, CONVERSATION_ID, OTHER_CONVERSATION_ID, started


def conversation_of(event: object) -> Patch:
    patches = patches_of(Recorded(CONVERSATION_ID, 1, AT, BY, event))
    (patch,) = [one for one in patches if one.table == "conversations"]
    return patch


def test_a_fork_stands_in_the_tables_with_its_parent_and_where_it_left_it() -> None:
    parent = Parent(conversation_id=OTHER_CONVERSATION_ID, at=7, hash=BODY_HASH)
    patch = conversation_of(started.model_copy(update={"parent": parent}))
    assert patch.key == (CONVERSATION_ID,)
    assert (patch.values["parent_id"], patch.values["parent_at"]) == (OTHER_CONVERSATION_ID, 7)
    assert conversation_of(started).values.keys() == patch.values.keys() - {
        "parent_id",
        "parent_at",
    }
