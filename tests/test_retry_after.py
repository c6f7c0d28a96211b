"""A server that says when to come again is believed: by the client, and by a batch's patience within its bound."""

import httpx
import pytest
from test_batch import Moments, patient

from receiver.client import ApiError, Client, Unreachable

DATE = "Sun, 22 Nov 2026 08:00:00 GMT"


def told(headers: dict[str, str], content: bytes = b"<html>") -> float | None:
    """What the client makes of a refusal with these headers."""
    transport = httpx.MockTransport(lambda _: httpx.Response(503, headers=headers, content=content))
    with Client("http://receiver.test", None, transport=transport) as client, pytest.raises(ApiError) as refused:
        client.account()
    return refused.value.retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "60"}, 60.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "2."}, 2.0),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 08:01:30 GMT", "date": DATE}, 90.0),
        ({"retry-after": "Sun, 22 Nov 2026 07:00:00 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Sun, 22 Nov 2026 08:01:30 GMT"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 08:01:30", "date": DATE}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
)
def test_a_refusal_carries_the_seconds_until_it_is_worth_asking_again(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert told(headers) == seconds
    assert told(headers, b'{"error": {"code": "disk_low", "message": "m"}}') == seconds


def waits(*errors: ApiError | Unreachable, bound: float = 60.0) -> list[float]:
    """How long a batch rests after each of these."""
    stop, left = Moments(), iter(errors)

    def question() -> None:
        if error := next(left, None):
            raise error

    patient(stop, bound).ask(question)
    return stop.waits


def away(retry_after: float | None = None) -> ApiError:
    return ApiError(503, "disk_low", "m", retry_after=retry_after)


def test_patience_comes_again_when_it_was_told_to_and_never_sooner_than_it_would_by_itself() -> None:
    assert waits(away(7), away(3), away(), away(1)) == [7, 3, 2, 4]
    assert waits(away(), Unreachable("u", "r"), away(0)) == [0.5, 1, 2]


def test_patience_does_not_wait_for_longer_than_it_has() -> None:
    assert waits(away(3600)) == [60]
    assert waits(away(20), away(3600)) == [20, 40]
    with pytest.raises(ApiError):
        waits(away(3600), away(3600))
