"""The table of the kinds of actions: what each is configured with, and what performs it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from receiver.actions import Performer
from receiver.actions.command_settings import CommandDefinition
from receiver.actions.download.settings import DownloadDefinition
from receiver.actions.http_settings import HttpDefinition
from receiver.actions.python_settings import PythonDefinition
from receiver.model.definitions import ActionKind, Definition

if TYPE_CHECKING:
    from receiver.egress.client import Egress

DEFINITIONS: dict[ActionKind, type[Definition]] = {
    ActionKind.DOWNLOAD: DownloadDefinition,
    ActionKind.HTTP: HttpDefinition,
    ActionKind.COMMAND: CommandDefinition,
    ActionKind.PYTHON: PythonDefinition,
}


def performers(
    egress: "Egress", *, clock: Callable[[], float], environment: Mapping[str, str] | None = None
) -> dict[ActionKind, Performer]:
    """One performer for each kind. `environment` is what commands inherit (None: the process's own).

    The caller bounds each attempt by cancelling it; a performer cleans up before it lets the cancellation through.
    """
    # Imported here, because whoever only reads the settings needs none of them, nor the network they use.
    from receiver.actions.command import Runner
    from receiver.actions.download.save import Downloader
    from receiver.actions.http import Poster
    from receiver.actions.python import Caller

    return {
        ActionKind.DOWNLOAD: Downloader(egress, clock),
        ActionKind.HTTP: Poster(egress, clock),
        ActionKind.COMMAND: Runner(environment),
        ActionKind.PYTHON: Caller(clock),
    }
