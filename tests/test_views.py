"""What the API shows: times are texts in every view, and nothing is shown that nobody has."""

from dataclasses import dataclass
from typing import get_args

import msgspec
import pytest

from receiver.model import views
from receiver.model.redaction import MASK, shown_input
from receiver.model.shown import shown

VIEWS = [
    each
    for each in vars(views).values()
    if isinstance(each, type) and issubclass(each, msgspec.Struct) and each.__module__ == views.__name__
]


@dataclass(frozen=True)
class Kept:
    """What an alert's view shows, kept in other types."""

    id: int = 1
    kind: str = "disk_low"
    subject: str = ""
    message: str = "no room"
    opened_at: float = 1_790_000_000.0
    last_at: float = 1_790_000_000.0015
    acknowledged_at: float | None = None
    closed_at: float | None = None
    count: int = 3


def test_times_become_texts_with_milliseconds_and_all_else_stays() -> None:
    alert = shown(views.AlertView, Kept())
    assert (alert.opened_at, alert.last_at) == ("2026-09-21T14:13:20.000Z", "2026-09-21T14:13:20.002Z")
    assert alert.closed_at is None
    assert (alert.id, alert.message, alert.count) == (1, "no room", 3)


def test_what_is_given_comes_before_what_the_record_has() -> None:
    alert = shown(views.AlertView, Kept(), count=4, closed_at=0.0)
    assert (alert.count, alert.closed_at) == (4, "1970-01-01T00:00:00.000Z")


def test_a_field_that_nobody_has_is_an_error() -> None:
    with pytest.raises(AttributeError, match="name"):
        shown(views.AppView, Kept())


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_a_field_that_is_named_like_a_time_is_one(view: type[msgspec.Struct]) -> None:
    times = {"at", "until"}
    named = {name for name in view.__struct_fields__ if name.rpartition("_")[2] in times}
    told = {field.name for field in msgspec.structs.fields(view) if views.Time in (field.type, *get_args(field.type))}
    assert told == named


def test_what_opens_a_workflow_is_not_shown() -> None:
    assert shown_input({"accessPassword": "x", "prompt": "y"}) == {"accessPassword": MASK, "prompt": "y"}
    assert shown_input({"accessPassword": ""}) == {"accessPassword": ""}
