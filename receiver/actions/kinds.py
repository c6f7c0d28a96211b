"""What performs each kind of action."""

from collections.abc import Callable, Mapping

from receiver.actions import Performer
from receiver.actions.command import Runner
from receiver.actions.download.save import Downloader
from receiver.actions.http import Poster
from receiver.actions.python import Caller
from receiver.egress.client import Egress
from receiver.model.definitions import ActionKind


def performers(
    egress: Egress, *, clock: Callable[[], float], environment: Mapping[str, str] | None = None
) -> dict[ActionKind, Performer]:
    """One performer for each kind. `environment` is what commands inherit (None: the process's own).

    The caller bounds each attempt by cancelling it; a performer cleans up before it lets the cancellation through.
    """
    return {
        ActionKind.DOWNLOAD: Downloader(egress, clock),
        ActionKind.HTTP: Poster(egress, clock),
        ActionKind.COMMAND: Runner(environment),
        ActionKind.PYTHON: Caller(clock),
    }
