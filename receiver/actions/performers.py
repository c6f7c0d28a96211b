"""The table of everything that can perform an action."""

from collections.abc import Callable, Mapping

from receiver.actions import Performer
from receiver.actions.command import Runner
from receiver.actions.download.save import Downloader, SavedBefore, nothing_saved
from receiver.actions.http import Poster
from receiver.actions.python import Caller
from receiver.egress.client import Egress
from receiver.model.records import ActionKind


def performers(
    egress: Egress,
    *,
    clock: Callable[[], float],
    environment: Mapping[str, str] | None = None,
    saved_before: SavedBefore = nothing_saved,
) -> dict[ActionKind, Performer]:
    """One performer for each kind. `environment` is what commands inherit (None: the process's own);
    `saved_before` tells downloads where the same bytes may be already.

    The caller bounds each try by cancelling it; a performer cleans up before it lets the cancellation through.
    """
    return {
        ActionKind.DOWNLOAD: Downloader(egress, clock, saved_before=saved_before),
        ActionKind.HTTP: Poster(egress, clock),
        ActionKind.COMMAND: Runner(environment),
        ActionKind.PYTHON: Caller(clock),
    }
