"""What a refusal by the server means for a batch: a line fails, all of it ends, or the same is asked again later."""

from receiver.cli.batch.tally import Why
from receiver.cli.outcome import problems_of
from receiver.client import ApiError
from receiver.client.patience import AWAY

FATAL = AWAY | {401, 403, 404}
"""Answers that every other line would get as well."""


def is_fatal(error: ApiError) -> bool:
    """Whether every other line would get the same answer."""
    return error.status in FATAL or error.code in ("no_api_key", "unreadable", "http_error")


def reasons(error: ApiError) -> list[Why]:
    """Why the server refuses a line, problem by problem."""
    return [Why(code=error.code, path=path, message=message) for path, message in problems_of(error)]
