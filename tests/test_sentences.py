"""Texts for people about tasks, actions and definitions: one wording for the command line and the console."""

from typing import Any

import pytest
from msgspec.structs import replace

from receiver.model import sentences
from receiver.model.records import Price, TaskError, TaskState
from receiver.model.views import ActionView, CallbackView, DefinitionView, TaskView

TIME = "2026-11-22T08:00:00.000Z"
READ = "2026-11-22 08:00:00"
TASK = TaskView(**{**dict.fromkeys(TaskView.__struct_fields__), "provider_task_id": "1"})  # type: ignore[arg-type]
ACTION = ActionView(
    **{**dict.fromkeys(ActionView.__struct_fields__), "state": "owed", "tries": []},  # type: ignore[arg-type]
)


@pytest.mark.parametrize(
    ("state", "due_at", "waits_for", "said"),
    [
        ("owed", None, "the actions it comes after", "waits for the actions it comes after"),
        ("owed", None, None, "held"),
        ("owed", TIME, None, READ),
        ("done", None, None, ""),
    ],
)
def test_an_action_says_what_it_waits_for(state: str, due_at: str | None, waits_for: str | None, said: str) -> None:
    assert sentences.due(replace(ACTION, state=state, due_at=due_at, waits_for=waits_for)) == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "running"),
        ({"paused": True, "breaker": "open"}, "paused"),
        ({"configured": False, "paused": True}, "gone"),
        ({"breaker": "open"}, f"waiting: 3 failed in a row, next trial {READ} UTC"),
        ({"breaker": "half_open"}, f"waiting: 3 failed in a row, next trial {READ} UTC"),
    ],
)
def test_how_a_definition_stands_is_said_in_a_few_words(changes: dict[str, Any], said: str) -> None:
    known = {"name": "tell", "kind": "http", "configured": True, "paused": False, "breaker": "closed", "failures": 3}
    told = {"open_until": TIME, "concurrency": 4, "rate": None, "on": [], "counts": {}}
    assert sentences.definition_state(DefinitionView(**{**known, **told, **changes})) == said


@pytest.mark.parametrize(
    ("state", "known", "said"),
    [
        ("submitted", {"sent": True}, "no callback yet"),
        ("submitted", {"sent": False}, "no callback URL was sent; RunningHub is asked"),
        ("in_doubt", {"sent": True}, "no callback yet"),
        ("queued", {"sent": False}, "none: the task has not been sent yet"),
        ("rejected", {"sent": True}, "none: RunningHub has no such task"),
        ("failed", {"sent": False}, "no callback URL was sent; RunningHub was asked"),
        ("cancelled", {"sent": True}, "none came"),
        ("submitted", {"delivered_at": TIME}, f"came {READ}"),
        ("succeeded", {"miss": "missed", "delivered_at": TIME}, "missed"),
        (
            "succeeded",
            {"miss": "late", "cause": "unreachable", "missed_at": TIME, "resent_at": TIME},
            f"late, unreachable, missed {READ}, asked for again {READ}",
        ),
    ],
)
def test_what_became_of_a_callback_is_one_sentence(state: str, known: dict[str, Any], said: str) -> None:
    unknown = dict.fromkeys(CallbackView.__struct_fields__)
    callback = CallbackView(**{**unknown, "sent": True, **known})
    ended = TIME if state in ("succeeded", "failed", "cancelled", "rejected") else None
    assert sentences.callback(replace(TASK, state=state, callback=callback, ended_at=ended)) == said


def test_a_task_that_was_cancelled_before_it_was_sent_expects_no_callback() -> None:
    unsent = CallbackView(**{**dict.fromkeys(CallbackView.__struct_fields__), "sent": False})  # type: ignore[arg-type]
    task = replace(TASK, state="cancelled", ended_at=TIME, provider_task_id=None, callback=unsent)
    assert sentences.callback(task) == "none: RunningHub has no such task"


@pytest.mark.parametrize("state", TaskState)
def test_every_state_of_a_task_has_its_sentence(state: TaskState) -> None:
    assert sentences.standing(replace(TASK, state=state.value)) == sentences.STATES[state]


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        ({}, ""),
        ({"consumeMoney": "0.14", "thirdPartyConsumeMoney": "2", "consumeCoins": "5"}, "money 0.14, money 2, coins 5"),
        ({"consumeMoney": None, "taskCostTime": "7"}, "7 s"),
        ({"taskCostTime": "0"}, ""),
    ],
)
def test_a_cost_is_what_the_provider_says_of_it(usage: dict[str, object], said: str) -> None:
    assert sentences.cost(usage) == said
    assert sentences.costs_of_children({"children": [{**usage, "task_id": 1}]}) == [("1", said)]


@pytest.mark.parametrize(
    ("amount", "text", "free", "said"),
    [
        ("1.5", None, None, "1.5 CNY"),
        ("1.5", "about 1.5", False, "about 1.5"),
        (None, None, True, "CNY, free this time"),
    ],
)
def test_a_price_is_the_providers_text_or_its_amount(
    amount: str | None, text: str | None, free: bool | None, said: str
) -> None:
    assert sentences.price(Price(amount=amount, currency="CNY", text=text, free=free)) == said


def test_nothing_is_said_of_what_is_not_there() -> None:
    assert [sentences.price(None), sentences.error(None), sentences.source(None)] == [None, None, None]
    assert sentences.error(TaskError(code="805", name="FAILED", message="it broke")) == "805 FAILED: it broke"
