"""The failure model of the whole program.

ReceiverError
├── Refused            somebody asked for what cannot be: their fault, with an HTTP status and a code
├── Failed             the world did not do its part: may be tried again
│   ├── StoreUnavailable   nothing can be written now
│   ├── DatabaseInUse      another server has the database
│   └── ProviderError      (in runninghub.errors) RunningHub did not answer, or answered no
└── SettingsError      the configuration is wrong: carries every problem at once
"""

from collections.abc import Sequence

from receiver.model.records import Json, JsonObject


class ReceiverError(Exception):
    """The root: everything we raise on purpose."""


TOLD, PATH_TOLD = 100, 500
"""Of what is wrong with one request, and characters of a path to it: a bad request makes no large answer."""


class Refused(ReceiverError):
    """A request that cannot be granted. `status` is the HTTP status, `details` is safe to show to the asker.

    `retry_after` says in how many seconds it may be granted.
    """

    def __init__(
        self, status: int, code: str, message: str, details: Json = None, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status
        self.code = code
        self.message = message
        self.details = details


class Failed(ReceiverError):
    """Something outside failed."""


class StoreUnavailable(Failed):
    """Nothing can be stored now. `reason` is a short code, `retry_after` in seconds."""

    def __init__(self, reason: str, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class DatabaseInUse(Failed):
    """Another process serves the database: one may."""


class SettingsError(ReceiverError):
    """Every problem of a configuration, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def not_found(what: str, name: str | int) -> Refused:
    """The refusal for something that does not exist."""
    return Refused(404, "not_found", f"there is no {what} {name}")


def invalid(path: str, message: str) -> Refused:
    return problems([(path, message)])


def problems(found: Sequence[tuple[str, str]]) -> Refused:
    """The refusal of bad input: every problem with its path."""
    told = [*found[:TOLD], ("", f"and {len(found) - TOLD} more")] if len(found) > TOLD else found
    listed: list[JsonObject] = [{"path": path[:PATH_TOLD], "message": message} for path, message in told]
    summary = "; ".join(f"{path[:PATH_TOLD]}: {message}" for path, message in told)
    return Refused(422, "invalid", summary, list(listed))
