"""What a stream does for items that are given one after the other."""

from __future__ import annotations

from proxy.core.events import End, GapCause, Item, Reset, StepGap
from proxy.rules.dry_run import Cause, DryRun, Made
from proxy.rules.ruleset import Rules
from tests.support.formats import chunk, event
from tests.support.streams import stream_of

RULES = """
- {name: tokens, events: step_stream, steps: answer, merge: 50ms, data: payload}
- {name: text, events: step_stream, steps: talk, data: payload, whole: payload.text}
- {name: ends, events: step_completed, data: type}
"""


def made_of(*items: Item, single: bool = False, controls: bool = True) -> list[Made]:
    run = DryRun(Rules(stream_of(RULES)), single=single, controls=controls)
    return [*(made for item in items for made in run.take(item)), *run.finish()]


def shown(made: list[Made]) -> list[tuple[str, str]]:
    """(cause, data) of each; without data the cause is followed by a dash."""
    return [(each.cause, each.message.data.decode() if each.message else "-") for each in made]


def test_chunks_wait_and_become_one_message_by_the_rule_that_took_them() -> None:
    made = made_of(chunk("answer", "a"), chunk("answer", "b", index=1), event("step_completed", "answer"))
    assert shown(made) == [
        ("waits", "-"),
        ("waits", "-"),
        ("merged", '"ab"'),
        ("given", '"step_completed"'),
    ]
    assert made[0].verdicts[0].matched
    assert made[2].rule == "tokens"


def test_chunks_that_waited_their_time_are_sent_before_the_next_item() -> None:
    run = DryRun(Rules(stream_of(RULES)))
    run.take(chunk("answer", "a"), 1.0)
    assert shown(run.take(chunk("answer", "b", index=1), 2.0)) == [("waits", "-"), ("merged", '"a"')]


def test_a_single_event_is_neither_merged_nor_compared_with_an_output() -> None:
    assert shown(made_of(chunk("answer", "a"), single=True)) == [("given", '"a"')]
    assert shown(made_of(event("step_completed", "talk", {"text": "Hi"}), single=True)) == [
        ("given", '"step_completed"')
    ]


def test_a_gap_is_held_and_the_missing_text_is_sent_in_its_place() -> None:
    gap = StepGap(GapCause.UPSTREAM, "talk", 1, 1)
    made = made_of(chunk("talk", "H"), gap, event("step_completed", "talk", {"text": "Hi"}))
    assert shown(made) == [
        ("given", '"H"'),
        ("held", "-"),
        ("repair", '"i"'),
        ("given", '"step_completed"'),
    ]


def test_a_gap_that_no_output_repairs_is_released_at_the_end_of_its_step() -> None:
    gap = StepGap(GapCause.UPSTREAM, "talk", 1, 1)
    made = made_of(gap, event("step_completed", "talk"))
    assert [(each.cause, each.item) for each in made[:2]] == [(Cause.HELD, gap), (Cause.RELEASED, gap)]


def test_control_frames_are_sent_for_steps_whose_chunks_are_forwarded() -> None:
    made = made_of(Reset("answer", 2), Reset("other", 2), End("completed"))
    assert [each.cause for each in made] == [Cause.GIVEN, Cause.UNSENT, Cause.GIVEN]
    assert {each.cause for each in made_of(Reset("answer", 2), End("completed"), controls=False)} == {
        Cause.UNSENT
    }
