"""The files of a batch on their way: each goes once, whichever thread needs it first, and only when it is not there."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import msgspec

from receiver.cli.batch.contents import ID, AttachedFile
from receiver.cli.batch.refusals import Interrupted, is_fatal, reasons
from receiver.cli.batch.tally import NOT_UPLOADED, Why
from receiver.cli.local_files import GRAPH
from receiver.client import ApiError, Client
from receiver.model.views import UploadView

PROVIDER = "provider_error"
"""The server's code when it is there and the provider is not, or refuses."""

Ask: TypeAlias = Callable[[Callable[[], UploadView]], UploadView]
"""Asks with patience; raises what is refused, a lasting absence, and Interrupted."""


class _Refused(Exception):
    """A file that is not taken, and why."""


class Uploads:
    """Uploads files of lines. Threads may want the same file at once: one sends it, and the others wait for that."""

    def __init__(self, client: Client, ask: Ask, stop: threading.Event) -> None:
        self._client = client
        self._ask = ask
        self._stop = stop
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        self._sent: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._under_way: dict[str, tuple[int, int]] = {}
        self._hasty = False

    def sent(self, files: Sequence[AttachedFile]) -> Mapping[str, int]:
        """How often each file was uploaded in this run, by its id."""
        with self._guard:
            return {file.id: self._sent[file.id] for file in files}

    def send(self, files: Sequence[AttachedFile], sent: Mapping[str, int]) -> list[Why]:
        """Uploads what was not uploaded since `sent` was asked for. Returns why that cannot be done, if so.

        Raises what ends a batch: the server's refusal to speak to us at all, its absence for too long, Interrupted.
        """
        problems = []
        for file in files:
            with self._guard:
                lock = self._locks[file.id]
            with lock:
                if file.id not in self._refused and self._sent[file.id] == sent[file.id]:
                    self._upload(file)
            if file.id in self._refused:
                problems.append(Why(code=NOT_UPLOADED, path=file.place, message=self._refused[file.id]))
        return problems

    def standing(self) -> str | None:
        """How far the uploads are that are under way, in words; None when there are none."""
        with self._guard:
            under_way = [*self._under_way.values()]
        if not under_way:
            return None
        done, total = (sum(sizes) / 2**20 for sizes in zip(*under_way, strict=True))
        return f"uploading {len(under_way)} file{'s' * (len(under_way) > 1)}, {done:.1f} of {total:.1f} MiB"

    def _upload(self, file: AttachedFile) -> None:
        """Counts the file as sent, or remembers why it is not to be tried again in this run."""
        try:
            made = self._ask(partial(self._once, file))
        except _Refused as refused:
            self._refuse(file, refused)
        except ApiError as error:
            if error.code != PROVIDER:
                raise
            # The server is there, and the provider was away for all our patience: others are asked for once only.
            self._hasty = True
            self._refuse(file, error)
        else:
            self._hasty = False
            if made.id != file.id:
                self._refuse(file, "it has changed meanwhile; give the same command again")
            with self._guard:
                self._sent[file.id] += 1
        finally:
            with self._guard:
                self._under_way.pop(file.id, None)

    def _refuse(self, file: AttachedFile, reason: object) -> None:
        self._refused[file.id] = f"{file.path} cannot be uploaded: {reason}"

    def _once(self, file: AttachedFile) -> UploadView:
        self._progress(file, 0, file.size)
        try:
            return self._client.upload(file.path, partial(self._progress, file))
        except OSError as error:
            raise _Refused(error.strerror or "cannot be read") from error
        except ApiError as error:
            if error.code == PROVIDER:
                final = self._hasty or (isinstance(error.details, dict) and error.details.get("retryable") is False)
            else:
                final = not is_fatal(error)
            if final:
                raise _Refused("; ".join(why.message for why in reasons(error))) from error
            raise

    def _progress(self, file: AttachedFile, done: int, total: int | None) -> None:
        if self._stop.is_set():
            raise Interrupted("stopped")
        with self._guard:
            self._under_way[file.id] = (done, total or file.size)


def wanting(files: Sequence[AttachedFile], told: Sequence[Why]) -> tuple[list[AttachedFile], list[Why]]:
    """The files of a line that a refusal says are not there (any more), and what else it says."""
    ids = {file.id for file in files}
    named = {id: why for why in told for id in ID.findall(why.message) if id in ids}
    others = [why for why in told if why not in named.values()]
    return [file for file in {file.id: file for file in files}.values() if file.id in named], others


def agrees(given: object, taken: object, uploads: Mapping[str, str]) -> bool:
    """Whether an input is what a task was made of; `uploads` has the texts that stand for uploads in the task's."""
    match given, taken:
        case dict(), dict():
            return given.keys() == taken.keys() and all(
                _graphs_agree(value, taken[name], uploads) if name == GRAPH else agrees(value, taken[name], uploads)
                for name, value in given.items()
            )
        case list(), list():
            return len(given) == len(taken) and all(
                agrees(value, other, uploads) for value, other in zip(given, taken, strict=True)
            )
        case str(), str():
            return taken == uploads.get(given, given)
    return given == taken


def _graphs_agree(given: object, taken: object, uploads: Mapping[str, str]) -> bool:
    """Graphs are JSON in a text, which may have been written anew; what is no graph is a value like any other."""
    try:
        graphs = [msgspec.json.decode(text) for text in (given, taken) if isinstance(text, str)]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        graphs = []
    if len(graphs) == 2 and all(isinstance(graph, dict) for graph in graphs):
        return agrees(graphs[0], graphs[1], uploads)
    return agrees(given, taken, uploads)
