"""The file `.env` of the working directory: variables that are added to the environment, as other programs do it."""

from collections.abc import MutableMapping
from pathlib import Path

FILE = ".env"
ADDRESS, TOKEN = "RECEIVER_URL", "RECEIVER_ADMIN_TOKEN"


def add_variables(environment: MutableMapping[str, str], directory: Path) -> None:
    """Adds what `.env` names and nobody has set. Raises SettingsError for a file that cannot be read.

    An address in it is passed over when the admin token is not from there: whoever gave us the directory must not be
    told a token that was meant for another server.
    """
    path = directory / FILE
    if not path.is_file():  # a directory of that name is somebody's virtual environment
        return
    from dotenv import dotenv_values

    try:
        named = dotenv_values(path, interpolate=False)
    except OSError as error:
        raise _unreadable(error.strerror or "") from error
    except UnicodeDecodeError as error:
        raise _unreadable("it is not UTF-8") from error
    if environment.get(TOKEN):
        named.pop(ADDRESS, None)
    for name, value in named.items():
        if value is not None:
            environment.setdefault(name, value)


def _unreadable(why: str) -> Exception:
    from receiver.model.errors import SettingsError

    return SettingsError([f"{FILE}: cannot be read: {why}"])
