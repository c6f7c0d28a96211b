"""What performs each kind of action."""

from collections.abc import Callable

from receiver.actions import Performer
from receiver.actions.command import Runner
from receiver.actions.download.save import Downloader
from receiver.actions.http import Poster
from receiver.actions.python import Caller
from receiver.egress.client import Egress
from receiver.model.definitions import ActionKind


def performers(egress: Egress, *, clock: Callable[[], float]) -> dict[ActionKind, Performer]:
    """One performer for each kind.

    The caller bounds each attempt by cancelling it; a performer cleans up before it lets the cancellation through.
    """
    return {
        ActionKind.DOWNLOAD: Downloader(egress, clock),
        ActionKind.HTTP: Poster(egress, clock),
        ActionKind.COMMAND: Runner(),
        ActionKind.PYTHON: Caller(clock),
    }
