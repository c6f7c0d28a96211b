"""What a refusal by the server means for a batch: a line fails, all of it ends, or the same is asked again later."""

from receiver.cli.batch.tally import Why
from receiver.client import ApiError
from receiver.model.errors import ReceiverError

AWAY = frozenset({429, 502, 503, 504})
"""Answers of a server that will be back, or of a proxy in front of it."""
FATAL = frozenset({401, 403, 404})
"""Answers that every other line would get as well."""


class Interrupted(ReceiverError):
    """The batch is being stopped."""


def is_fatal(error: ApiError) -> bool:
    """Whether every other line would get the same answer."""
    return error.status in FATAL or error.status in AWAY or error.code in ("no_api_key", "unreadable", "http_error")


def reasons(error: ApiError) -> list[Why]:
    """Why the server refuses a line, problem by problem."""
    details = error.details if isinstance(error.details, list) else []
    found = [
        Why(code=error.code, path=str(each.get("path", "")), message=str(each.get("message", "")))
        for each in details
        if isinstance(each, dict)
    ]
    return found or [Why(code=error.code, message=error.message)]
