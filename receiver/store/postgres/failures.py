"""What an error of PostgreSQL means: the storage itself has failed, or one statement is to blame."""

import psycopg

from receiver.model.errors import DatabaseInUse, SettingsError, StoreUnavailable

LOST = "connection_lost"
READ_ONLY = "read_only"

REASONS = {
    # The server is gone, is going, or is not there yet.
    "08": LOST,
    "25P03": LOST,
    "40003": LOST,
    "57P": LOST,
    "57P04": "database_gone",
    # It is there, and lacks something.
    "53100": "disk_full",
    "53200": "out_of_memory",
    "53300": "too_many_connections",
    "53": "out_of_resources",
    "58": "disk_error",
    "XX001": "corrupt",
    "XX002": "corrupt",
    # A standby, or a server that was made one while we were connected to it.
    "25006": READ_ONLY,
    # Somebody else is in the way.
    "40": "conflict",
    "55P03": "locked",
    "57014": "too_slow",
    # Somebody has taken something away.
    "28": "not_allowed",
    "42501": "not_allowed",
    "3F000": "tables_gone",
    "42P01": "tables_gone",
}
"""By SQLSTATE, or how it begins; the longest beginning counts. Whatever is not here is the fault of one statement."""


def storage_failure(error: Exception) -> str | None:
    """The reason code of an error of the storage itself; None for any other."""
    match error:
        case StoreUnavailable():
            return error.reason
        case DatabaseInUse():
            return "in_use"
        case SettingsError():
            return "not_allowed"
    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate
    if state is None:
        # The server said nothing: the connection is closed, or could not be made.
        return LOST if isinstance(error, psycopg.OperationalError) else None
    return next((REASONS[state[:length]] for length in (5, 3, 2) if state[:length] in REASONS), None)


def said(error: psycopg.Error, *secrets: str | None) -> str:
    """What an error says, in one line, without what must not be read."""
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    for secret in secrets:
        text = text.replace(secret, "[secret]") if secret else text
    return text
