"""The table of the client's operations says what the client sends and what the routes do."""

from pathlib import Path

from tests.contract.operations import STATES, TABLE, operations, standing_of, table


def test_the_table_of_operations_is_up_to_date() -> None:
    assert TABLE.read_text() == table(), "python -m tests.contract.operations writes it anew"


def test_the_front_page_counts_what_is_done_as_the_table_does() -> None:
    found = operations()
    done = sum(standing_of(one).state == "done" for one in found)
    front_page = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"Of its {len(found)} operations {done} are here" in front_page


def test_every_operation_of_the_client_is_found_with_what_it_sends() -> None:
    found = operations()
    assert len(found) == len({one.name for one in found})
    assert len(found) > 120
    sent = {one.name: (one.method, one.path) for one in found}
    assert sent["health"] == ("GET", "/v1/health/")
    assert sent["agents.messages.compact"] == ("POST", "/v1/agents/{agent_id}/summarize")
    assert sent["tools.upsert"] == ("PUT", "/v1/tools/")
    assert sent["runs.messages.stream"] == ("POST", "/v1/runs/{path_run_id}/stream")


def test_what_is_done_is_told_from_what_is_turned_down() -> None:
    states = {one.name: standing_of(one).state for one in operations()}
    assert set(states.values()) <= set(STATES)
    assert states["conversations.messages.create"] == states["tags.list"] == "done"
    assert states["folders.files.upload"] == states["steps.feedback.create"] == "501"
