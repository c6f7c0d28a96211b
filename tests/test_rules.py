"""The tables and the numbers that decide."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.model import rules
from receiver.model.definitions import ActionKind, Definition, When
from receiver.model.entries import NewEvent, OwedAction
from receiver.model.records import ActionState, Api, End, Kind, MissCause, Result, Source, Task, TaskState
from receiver.model.rules import ACTION_MOVES, ENDED, TASK_MOVES, InDoubt, Later, Rejected
from receiver.runninghub.errors import CODES
from receiver.server.definitions import KEEP_FILES

MODEST = settings(deadline=None, max_examples=50, derandomize=True)
START = 1_790_000_000.0


def a_task(target: str = "google/Veo3.1-pro/reference-to-video", **labels: str) -> Task:
    return Task(
        key=1,
        id="01a205ac-c703-76a8-b314-bcbc425dff41",
        kind=Kind.MODEL,
        api=Api.V2,
        target=target,
        input={},
        labels=labels,
        state=TaskState.SUBMITTED,
        created_at=START,
        sent_at=START,
        submitted_at=START,
        ended_at=None,
        provider_task_id="1904163390028185602",
        provider_status="RUNNING",
        callback=True,
        error=None,
        check_at=None,
        asked=0,
        unsure_asked=0,
        delivered_at=None,
        queried_at=None,
        empty_since=None,
        empty_count=0,
        miss=None,
        miss_cause=None,
        missed_at=None,
        resends=0,
        site=None,
        resent_at=None,
        refresh=False,
        settled=False,
        overdue=False,
        idempotency_key=None,
        again_of=None,
    )


def a_definition(name: str = "notify", *, on: tuple[End, ...] = (End.SUCCEEDED,), **options: object) -> Definition:
    return Definition(name=name, kind=ActionKind.COMMAND, timeout=30, on=on, **options)  # type: ignore[arg-type]


def an_event(state: End = End.SUCCEEDED, *, confirmed: bool = True, settled: bool = True) -> NewEvent:
    return NewEvent(task=a_task(), state=state, source=Source.QUERY, confirmed=confirmed, settled=settled)


# ---------------------------------------------------------------- moves


def test_every_state_has_its_row_of_moves() -> None:
    assert set(TASK_MOVES) == set(TaskState)
    assert set(ACTION_MOVES) == set(ActionState)


def test_nothing_moves_to_where_it_is() -> None:
    assert [state for state, moves in TASK_MOVES.items() if state in moves] == []
    assert [state for state, moves in ACTION_MOVES.items() if state in moves] == []


def test_every_state_can_be_reached() -> None:
    assert [state for state in TaskState if not rules.sources(state)] == []
    assert [state for state in ActionState if not rules.action_sources(state)] == []


def test_ended_states_are_those_of_an_event() -> None:
    assert {state.value for state in ENDED} == {end.value for end in End}


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_ended_task_moves_only_among_ends_and_never_to_or_from_a_refusal(state: TaskState) -> None:
    assert TASK_MOVES[state] <= ENDED - {TaskState.REJECTED}
    assert TASK_MOVES[TaskState.REJECTED] == frozenset()


def test_what_may_be_billed_never_returns_to_the_queue() -> None:
    """Only a task that was certainly not taken, told so while it was being sent, is sent again."""
    assert rules.sources(TaskState.QUEUED) == (TaskState.SUBMITTING,)
    assert rules.sources(TaskState.SUBMITTING) == (TaskState.QUEUED,)


def test_only_the_answer_to_a_submission_refuses_or_leaves_in_doubt() -> None:
    assert rules.sources(TaskState.REJECTED) == (TaskState.SUBMITTING,)
    assert rules.sources(TaskState.IN_DOUBT) == (TaskState.SUBMITTING,)


@pytest.mark.parametrize("end", [TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED])
def test_any_telling_ends_a_task_that_was_sent_even_one_given_up(end: TaskState) -> None:
    sent = {TaskState.SUBMITTING, TaskState.SUBMITTED, TaskState.IN_DOUBT, TaskState.LOST}
    assert sent <= set(rules.sources(end))


def test_a_task_in_our_own_queue_can_only_be_sent_or_cancelled() -> None:
    assert TASK_MOVES[TaskState.QUEUED] == {TaskState.SUBMITTING, TaskState.CANCELLED}


def test_only_what_the_provider_may_have_is_given_up() -> None:
    assert set(rules.sources(TaskState.LOST)) == {TaskState.SUBMITTED, TaskState.IN_DOUBT}


def test_an_action_runs_only_when_it_is_owed_and_can_always_be_owed_again() -> None:
    assert rules.action_sources(ActionState.RUNNING) == (ActionState.OWED,)
    assert set(rules.action_sources(ActionState.OWED)) == set(ActionState) - {ActionState.OWED}


def test_what_runs_is_not_skipped_under_the_hands_of_its_worker() -> None:
    assert ActionState.RUNNING not in rules.action_sources(ActionState.SKIPPED)


def test_sources_and_the_tables_are_one() -> None:
    for task, moves in TASK_MOVES.items():
        assert {target for target in TaskState if task in rules.sources(target)} == moves
    for action, possible in ACTION_MOVES.items():
        assert {target for target in ActionState if action in rules.action_sources(target)} == possible


# ---------------------------------------------------------------- submission

NOT_TAKEN = {"moved", "415", "421", "814", "1003", "1010", "1011", "1520", "busy", "not_sent"}
PERHAPS_TAKEN = {"500", "1000", "1005", "1012", "unanswered", "unreadable", "unclear"}


def test_every_code_is_later_in_doubt_or_refused() -> None:
    for code in (*CODES, "4711"):
        expected = Later if code in NOT_TAKEN else InDoubt if code in PERHAPS_TAKEN else Rejected
        assert isinstance(rules.submission_verdict(code, 200), expected), code
        assert isinstance(rules.submission_verdict(code), expected), code


def test_the_lists_of_this_test_hold_known_codes_alone() -> None:
    assert set(CODES) >= NOT_TAKEN | PERHAPS_TAKEN


@pytest.mark.parametrize("status", [500, 502, 599])
def test_a_broken_gateway_proves_nothing_whatever_its_body_says(status: int) -> None:
    for code in set(CODES) - NOT_TAKEN:
        assert rules.submission_verdict(code, status) == InDoubt(), code


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *[(status, InDoubt()) for status in (500, 501, 502, 503, 504, 599)],
        *[(status, Rejected()) for status in (400, 401, 403, 404, 405, 413, 415, 422)],
        *[(status, InDoubt()) for status in (301, 302, 307, 408, 409, 418, 425)],
    ],
)
def test_an_http_status_without_a_readable_body_is_judged_by_itself(status: int, expected: object) -> None:
    """A refusal that proxies make up as well, such as 408, leaves the task in doubt."""
    assert rules.submission_verdict(f"http_{status}", status) == expected


def test_too_many_requests_means_later() -> None:
    assert rules.submission_verdict("http_429", 429) == Later(15.0)


def test_the_queue_rests_at_least_ten_seconds_and_at_most_a_minute() -> None:
    for code in (*NOT_TAKEN, "http_429"):
        verdict = rules.submission_verdict(code)
        assert isinstance(verdict, Later), code
        assert 10 <= verdict.pause <= 60, code


# ---------------------------------------------------------------- the ladder


def asked_at(*, callback: bool, questions: int) -> list[float]:
    """Seconds after the submission at which a task is asked about when every question is asked at its time."""
    times: list[float] = []
    now = START
    for asked in range(questions):
        now = rules.ladder(START, asked, now, callback=callback)
        times.append(now - START)
    return times


def test_a_task_with_a_callback_is_asked_about_on_a_fixed_ladder() -> None:
    assert asked_at(callback=True, questions=7) == [30, 60, 120, 240, 840, 1440, 2040]


def test_a_task_without_a_callback_is_asked_about_closely() -> None:
    assert asked_at(callback=False, questions=7) == [5, 10, 20, 30, 60, 90, 120]


def test_a_question_that_is_late_is_asked_now_and_none_is_made_up_for() -> None:
    late = START + 5000
    assert rules.ladder(START, 1, late, callback=True) == late
    assert rules.ladder(START, 4, late, callback=True) == late + 600


@MODEST
@given(st.floats(0, 2e9), st.integers(0, 10_000), st.floats(0, 1e6), st.floats(0, 1e6), st.booleans())
def test_a_next_question_is_never_in_the_past_and_never_moves_backwards(
    submitted_at: float, asked: int, passed: float, more: float, callback: bool
) -> None:
    now = submitted_at + passed
    due = rules.ladder(submitted_at, asked, now, callback=callback)
    assert due >= now
    assert rules.ladder(submitted_at, asked, now + more, callback=callback) >= due
    assert rules.ladder(submitted_at, asked + 1, now, callback=callback) >= due


def test_a_claim_that_is_not_confirmed_is_asked_about_at_growing_distances() -> None:
    assert [rules.unsure_delay(asked) for asked in range(8)] == [2, 5, 15, 30, 60, 120, 120, 120]


@pytest.mark.parametrize(
    ("count", "seconds", "final"),
    [(0, 1e6, False), (2, 1e6, False), (3, 299.9, False), (3, 300, True), (4, 300, True), (100, 0, False)],
)
def test_success_without_results_is_believed_after_three_questions_and_five_minutes(
    count: int, seconds: float, final: bool
) -> None:
    assert rules.empty_is_final(count, START, START + seconds) is final


@pytest.mark.parametrize(
    ("status", "retries", "seconds", "missed"),
    [
        (None, 0, 0, False),
        (None, 0, 299.9, False),
        (None, 0, 300, True),
        ("FAILED", 2, 0, False),
        ("FAILED", 2, 300, True),
        ("FAILED", 3, 0, True),
        ("FAILED", 4, 0, True),
        ("SUCCESS", 3, 0, False),
        ("SUCCESS", 0, 300, True),
        (None, 3, 0, False),
    ],
)
def test_a_callback_is_missed_when_its_tries_are_used_up_or_five_minutes_have_passed(
    status: str | None, retries: int, seconds: float, missed: bool
) -> None:
    assert rules.callback_is_missed(status, retries, START, START + seconds) is missed


@pytest.mark.parametrize(
    ("status", "response", "retries", "cause"),
    [
        (None, None, 0, MissCause.NEVER_SENT),
        ("", "", 0, MissCause.NEVER_SENT),
        (None, "  ", 0, MissCause.NEVER_SENT),
        (None, None, 1, MissCause.UNKNOWN),
        ("PENDING", "", 0, MissCause.UNKNOWN),
        ("FAILED", '404 Not Found: "no such page"', 3, MissCause.REFUSED),
        ("FAILED", "503", 1, MissCause.REFUSED),
        (None, '502 Bad Gateway: "nginx"', 1, MissCause.REFUSED),
        ("failed", " 401 Unauthorized", 3, MissCause.REFUSED),
        ("FAILED", "4040 things went wrong", 3, MissCause.UNREACHABLE),
        ("FAILED", 'I/O error on POST request for "https://x": Connection refused', 3, MissCause.UNREACHABLE),
        ("FAILED", None, 3, MissCause.UNREACHABLE),
        ("SUCCESS", '{"ok":true}', 0, MissCause.ELSEWHERE),
        ("success", "404 Not Found", 0, MissCause.ELSEWHERE),
        ("SUCCESS", None, 3, MissCause.ELSEWHERE),
    ],
)
def test_the_cause_of_a_miss_is_read_from_the_detail(
    status: str | None, response: str | None, retries: int, cause: MissCause
) -> None:
    assert rules.miss_cause(status, response, retries) is cause


def test_every_cause_of_a_miss_has_a_sentence_of_its_own() -> None:
    assert len({cause.phrase for cause in MissCause}) == len(MissCause)


# ---------------------------------------------------------------- actions


def test_tries_are_spread_further_and_further() -> None:
    assert [rules.backoff(attempt, 0.5) for attempt in range(1, 10)] == [2, 6, 18, 54, 162, 486, 1458, 3600, 3600]


@MODEST
@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_backoff_grows_to_its_cap_and_is_spread_by_a_quarter(attempt: int, jitter: float) -> None:
    middle = rules.backoff(attempt, 0.5)
    assert 0 < middle <= rules.BACKOFF_CAP
    assert rules.backoff(attempt + 1, 0.5) >= middle
    assert 0.75 * middle <= rules.backoff(attempt, jitter) < 1.25 * middle


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        (a_definition(), True),
        (a_definition(on=(End.FAILED,)), False),
        (a_definition(on=(End.FAILED, End.SUCCEEDED)), True),
        (a_definition(when=When(labels={"project": "x"})), True),
        (a_definition(when=When(labels={"project": "y"})), False),
        (a_definition(when=When(labels={"project": "x", "user": "ada"})), True),
        (a_definition(when=When(labels={"project": "x", "user": "bob"})), False),
        (a_definition(when=When(labels={"missing": ""})), False),
        (a_definition(when=When(target="google/*")), True),
        (a_definition(when=When(target="google/Veo3.1-pro/reference-to-video")), True),
        (a_definition(when=When(target="Veo")), False),
        (a_definition(when=When(target="*/veo*")), False),
        (a_definition(when=When(target="*video")), True),
        (a_definition(when=When(target="google/Veo?.1-*")), True),
        (a_definition(when=When(target="google/*", labels={"project": "y"})), False),
        (a_definition(when=When(target="")), False),
    ],
    ids=[
        *["by default", "another end", "one of two ends", "label", "other label", "two labels", "one label is wrong"],
        *["an absent label is not an empty one", "prefix", "exact", "a part is not enough", "capitals count"],
        *["suffix", "pattern", "target fits, label does not", "an empty target"],
    ],
)
def test_a_definition_is_for_the_tasks_it_names(definition: Definition, expected: bool) -> None:
    task = a_task(project="x", user="ada")
    assert rules.matches(definition, End.SUCCEEDED, task) is expected


def test_an_event_owes_the_actions_that_are_for_it_in_the_order_of_the_configuration() -> None:
    definitions = [
        a_definition("second", after=("first",)),
        a_definition("never", on=(End.FAILED,)),
        a_definition("first"),
        a_definition("elsewhere", when=When(labels={"project": "y"})),
    ]
    assert rules.owed(definitions, an_event()) == [
        OwedAction(name="second", after=("first",)),
        OwedAction(name="first"),
    ]


@pytest.mark.parametrize(
    ("confirmed", "settled", "held"),
    [(True, True, False), (True, False, False), (False, True, False), (False, False, True)],
)
def test_actions_wait_for_a_confirmation_that_may_still_come(confirmed: bool, settled: bool, held: bool) -> None:
    event = an_event(confirmed=confirmed, settled=settled)
    careful, hasty = rules.owed([a_definition("careful"), a_definition("hasty", unconfirmed=True)], event)
    assert careful.held is held
    assert hasty.held is False


def test_a_paid_result_is_saved_before_it_is_confirmed() -> None:
    (owed,) = rules.owed([KEEP_FILES], an_event(confirmed=False, settled=False))
    assert not owed.held


@pytest.mark.parametrize("end", [end for end in End if end is not End.SUCCEEDED])
def test_nothing_is_owed_for_an_end_that_nobody_asked_about(end: End) -> None:
    assert rules.owed([a_definition(), KEEP_FILES], an_event(end)) == []


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], False),
        ([Result()], False),
        ([Result(type="png", node_id="9")], False),
        ([Result(url="", text="")], False),
        ([Result(url="https://x/a.png")], True),
        ([Result(), Result(text="a")], True),
    ],
    ids=["none", "an empty one", "without file and text", "empty texts", "a file", "a text"],
)
def test_content_is_a_file_or_a_text(results: list[Result], expected: bool) -> None:
    assert rules.has_content(results) is expected


def test_the_steps_of_every_ladder_rise() -> None:
    for steps in (rules.LADDER, rules.FOLLOW_LADDER, rules.UNSURE_DELAYS):
        assert all(earlier < later for earlier, later in pairwise(steps))
