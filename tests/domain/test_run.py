"""What a run is owed: the same after a fact and after a restart."""

from dataclasses import replace

from domain.agent import Agent, AgentSettings
from domain.conversation import Conversation, ConversationSettings
from domain.models import model_of
from domain.run import (
    ATTEMPTS_MAX,
    Claim,
    CloseStep,
    EndRun,
    OpenStep,
    Overrides,
    Run,
    RunRequest,
    RunUsage,
    TakeStep,
    Usage,
    pending,
)
from domain.run.state import total_of
from domain.streams import (
    CONVERSATION,
    MESSAGE,
    derived_id,
    is_id,
    kind_of,
    otid_of,
    system_message_id,
)
from tests.examples import CONVERSATION_ID, MESSAGE_ID, RUN_ID, claimed


def run(**more: object) -> Run:
    return Run(RUN_ID, 2, RunRequest(max_steps=2), **more)  # type: ignore[arg-type]


def test_a_run_that_nobody_has_is_claimed() -> None:
    assert pending(run(), None) == Claim(RUN_ID, 1)
    assert pending(run(), 0) == Claim(RUN_ID, 1)


def test_a_run_of_another_worker_is_claimed_under_the_next_epoch() -> None:
    assert pending(run(claimed=claimed(epoch=4)), None) == Claim(RUN_ID, 5)
    assert pending(run(claimed=claimed(epoch=4)), 3) == Claim(RUN_ID, 5)


def test_a_claimed_run_is_stepped() -> None:
    assert pending(run(claimed=claimed()), 1) == TakeStep(RUN_ID, 1, 0, 1)
    again = run(claimed=claimed(), attempts_lost=1)
    assert pending(again, 1) == TakeStep(RUN_ID, 1, 0, 2)


def test_a_cancelled_run_is_closed_and_then_ended() -> None:
    step = OpenStep(5, 0, 1)
    assert pending(run(claimed=claimed(), cancelled=True, step=step), 1) == CloseStep(RUN_ID, 1, 5)
    assert pending(run(claimed=claimed(), cancelled=True), 1) == EndRun(
        RUN_ID, 1, "cancelled", "cancelled"
    )


def test_a_step_of_ours_that_nobody_is_at_is_taken_over_like_another_s() -> None:
    step = OpenStep(5, 0, 1)
    assert pending(run(claimed=claimed(), step=step), 1) == Claim(RUN_ID, 2)


def test_a_step_that_was_lost_too_often_fails_the_run_with_the_reason() -> None:
    ending = pending(run(claimed=claimed(), attempts_lost=ATTEMPTS_MAX), 1)
    assert isinstance(ending, EndRun)
    assert (ending.status, ending.stop_reason) == ("failed", "error")
    assert ending.error is not None
    assert str(ATTEMPTS_MAX) in ending.error.message


def test_a_run_ends_with_its_answer_or_at_its_limit_of_steps() -> None:
    answered = run(claimed=claimed(), answered=True, steps_done=1, finish_reason="stop")
    assert pending(answered, 1) == EndRun(RUN_ID, 1, "completed", "end_turn")
    tired = run(claimed=claimed(), steps_done=2)
    assert pending(tired, 1) == EndRun(RUN_ID, 1, "completed", "max_steps")


def test_what_a_vendor_did_not_report_stays_unknown_until_it_does() -> None:
    silent = total_of(RunUsage(), Usage(input_tokens=1))
    assert silent.cached_input_tokens is None
    spoken = total_of(silent, Usage(cached_input_tokens=3))
    assert total_of(spoken, Usage()).cached_input_tokens == 3
    assert total_of(spoken, None).step_count == 3


def test_ids_follow_from_what_they_are_of() -> None:
    assert system_message_id(CONVERSATION_ID) == system_message_id(CONVERSATION_ID)
    assert is_id(MESSAGE, derived_id(MESSAGE, "x"))
    assert derived_id(MESSAGE, "x") != derived_id(MESSAGE, "y")
    assert kind_of(CONVERSATION_ID) == CONVERSATION
    assert not is_id(CONVERSATION, CONVERSATION_ID + "\n")


def test_an_otid_is_the_message_s_id_with_the_part_s_index_in_its_last_7_bits() -> None:
    assert otid_of(MESSAGE_ID, 0) == "11111111-1111-4111-8111-111111111100"
    assert otid_of(MESSAGE_ID, 5) == "11111111-1111-4111-8111-111111111105"
    assert otid_of(MESSAGE_ID, 127)[-2:] == "7f"


def test_a_request_s_model_wins_over_the_conversation_s_and_that_over_the_agent_s() -> None:
    agent = Agent(AgentSettings(name="a", model="a/a", model_settings={"t": 1}))
    plain = Conversation(agent_id="agent-x")
    own = replace(plain, settings=ConversationSettings(model="c/c", model_settings={"t": 2}))
    assert model_of(plain, agent, Overrides()) == ("a/a", {"t": 1})
    assert model_of(own, agent, Overrides()) == ("c/c", {"t": 2})
    assert model_of(own, agent, Overrides(model="r/r")) == ("r/r", {})
