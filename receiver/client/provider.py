"""What the provider offers beside tasks: models, apps, workflows, styles, the account; and bringing files to it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeVar

import httpx

from receiver.client.transport import CONNECT_TIMEOUT, Progress, Transport
from receiver.model.views import AccountView, AppView, FileNameView, ModelRow, ModelView, PageView, UploadView

T = TypeVar("T")

UPLOAD_PATIENCE = 600.0
"""Seconds at the least for the answer to an upload, which comes when the provider has stored it."""
SLOWEST = 500_000
"""Bytes a second at which a large file is waited for; a LoRA of 2 GiB gets more than an hour."""
CHUNK = 64 * 1024


class Provider(Transport):
    """What the provider has, as the server is told it, and files on their way there."""

    def models(self, pattern: str = "") -> PageView[ModelRow]:
        """The models with the pattern in name, endpoint, group or output; * and ? stand for anything."""
        return self._call("GET", PageView[ModelRow], "models", query=[("q", pattern)])

    def model(self, name: str) -> ModelView:
        """A model by any name it is known by."""
        return self._call("GET", ModelView, "models", *name.split("/"))

    def app(self, app_id: str) -> AppView:
        """An AI app's name and the fields of its nodes."""
        return self._call("GET", AppView, "apps", app_id)

    def workflow(self, workflow_id: str) -> AppView:
        """The fields of a workflow's nodes."""
        return self._call("GET", AppView, "workflows", workflow_id)

    def styles(self, app_id: str, type: int = 2) -> PageView[dict[str, object]]:
        """What a quick creation of an app can look like, in the provider's own fields; `type` is its kind of style."""
        return self._call("GET", PageView[dict[str, object]], "apps", app_id, "styles", query=[("type", type)])

    def upload(self, path: Path, on_progress: Progress | None = None, *, name: str | None = None) -> UploadView:
        """Brings a file to the provider, unless it was there within a day; its id may stand in orders for a file.

        It goes under its own name unless another is given. `on_progress` is told the bytes sent so far, and of how
        many. Raises OSError.
        """
        return self._bring(path, name, None, on_progress, UploadView)

    def upload_for_nodes(
        self, path: Path, on_progress: Progress | None = None, *, name: str | None = None
    ) -> FileNameView:
        """Brings a file to the provider its older way, for the nodes of workflows and apps alone. Else as `upload`."""
        return self._bring(path, name, "nodes", on_progress, FileNameView)

    def upload_lora(self, path: Path, on_progress: Progress | None = None, *, name: str | None = None) -> FileNameView:
        """Brings a LoRA to the provider, which takes bytes that it has only once. Else as `upload`."""
        return self._bring(path, name, "lora", on_progress, FileNameView)

    def account(self) -> AccountView:
        """The account's balance at the provider, and how much its key may run at once."""
        return self._call("GET", AccountView, "account")

    def _bring(
        self, path: Path, name: str | None, purpose: str | None, on_progress: Progress | None, kind: type[T]
    ) -> T:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            called = {"name": (name or path.name).encode(errors="replace").decode()}
            request = self._http.build_request(
                "POST",
                "/api/uploads",
                params=called if purpose is None else {**called, "as": purpose},
                content=_chunks(file, size, on_progress),
                headers={"content-length": str(size)},
                timeout=httpx.Timeout(max(UPLOAD_PATIENCE, size / SLOWEST), connect=CONNECT_TIMEOUT),
            )
            return self._read(self._send(request), kind)


def _chunks(file: IO[bytes], size: int, on_progress: Progress | None) -> Iterator[bytes]:
    done = 0
    while chunk := file.read(CHUNK):
        yield chunk
        done += len(chunk)
        if on_progress is not None:
            on_progress(done, size)
