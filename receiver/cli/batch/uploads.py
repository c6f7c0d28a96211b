"""The uploads of a batch: each file is sent once, by the thread that needs it first, if the server does not have it."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from receiver.cli.batch.contents import AttachedFile
from receiver.cli.batch.refusals import is_fatal
from receiver.cli.batch.tally import NOT_UPLOADED, Why
from receiver.cli.outcome import problems_of
from receiver.client import ApiError, Client
from receiver.client.patience import Interrupted, Patience
from receiver.model.views import UploadView
from receiver.orders.references import ID

PROVIDER = "provider_error"
"""The server's code when it is there and the provider is not, or refuses."""


class _NotUploaded(Exception):
    """A file could not be uploaded; the message says why."""


class Uploads:
    """Uploads files of lines. Threads may want the same file at once: one sends it, and the others wait for that."""

    def __init__(self, client: Client, patience: Patience) -> None:
        self.sent: Counter[str] = Counter()
        """How often each file was uploaded in this run, by its id."""
        self._client = client
        self._patience = patience
        self._locks: dict[str, threading.Lock] = {}
        self._refused: dict[str, str] = {}
        self._under_way: dict[str, tuple[int, int]] = {}
        self._provider_was_away = False

    def send(self, files: Sequence[AttachedFile], sent: Mapping[str, int]) -> list[Why]:
        """Uploads the files whose counts have not changed since they were `sent`. Returns why that fails, if it does.

        Raises what ends a batch: the server's refusal to speak to us at all, its absence for too long, Interrupted.
        """
        for file in files:
            with self._locks.setdefault(file.id, threading.Lock()):
                if file.id not in self._refused and self.sent[file.id] == sent.get(file.id, 0):
                    self._upload(file)
        return [
            Why(code=NOT_UPLOADED, path=file.place, message=self._refused[file.id])
            for file in files
            if file.id in self._refused
        ]

    def under_way(self) -> str | None:
        """How far the uploads are that are under way, in words; None when there are none."""
        files = [*self._under_way.values()]
        if not files:
            return None
        done, total = (sum(sizes) / 2**20 for sizes in zip(*files, strict=True))
        return f"uploading {len(files)} file{'s' * (len(files) > 1)}, {done:.1f} of {total:.1f} MiB"

    def _upload(self, file: AttachedFile) -> None:
        """Counts the file as sent, or remembers why it is not to be tried again in this run."""
        try:
            made = self._patience.ask(partial(self._once, file))
            self._provider_was_away = False
            if made.id != file.id:
                raise _NotUploaded("it has changed meanwhile; give the same command again")
            self.sent[file.id] += 1
        except (_NotUploaded, ApiError) as error:
            if isinstance(error, ApiError):
                if error.code != PROVIDER:
                    raise
                # The server is there, and the provider was away for all our patience: others are asked for once only.
                self._provider_was_away = True
            self._refused[file.id] = f"{file.path} cannot be uploaded: {error}"
        finally:
            self._under_way.pop(file.id, None)

    def _once(self, file: AttachedFile) -> UploadView:
        """Asks once. Raises ApiError when it may be asked again, or every file would be refused; else _NotUploaded."""
        self._progress(file, 0, file.size)
        try:
            return self._client.upload(file.path, partial(self._progress, file))
        except OSError as error:
            raise _NotUploaded(error.strerror or "cannot be read") from error
        except ApiError as error:
            refused_for_good = isinstance(error.details, dict) and error.details.get("retryable") is False
            if (self._provider_was_away or refused_for_good) if error.code == PROVIDER else not is_fatal(error):
                raise _NotUploaded("; ".join(message for _, message in problems_of(error))) from error
            raise

    def _progress(self, file: AttachedFile, done: int, total: int | None) -> None:
        if self._patience.stop.is_set():
            raise Interrupted("stopped")
        self._under_way[file.id] = (done, total or file.size)


def wanting(files: Sequence[AttachedFile], told: Sequence[Why]) -> tuple[list[AttachedFile], list[Why]]:
    """The files of a line that a refusal says are not there (any more), and what else it says."""
    ids = {file.id for file in files}
    named = {id: why for why in told for id in ID.findall(why.message) if id in ids}
    others = [why for why in told if why not in named.values()]
    return [file for file in {file.id: file for file in files}.values() if file.id in named], others
