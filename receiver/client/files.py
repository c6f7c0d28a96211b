"""Fetching the files that the server saved: resumed where it broke off, and true to what the server saved."""

import base64
import hashlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

import httpx
from msgspec import Struct

from receiver.client.patience import ALONE, USUAL, Patience
from receiver.client.transport import ApiError, Progress, Transport

DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]{44}):")
PARTIAL = 206
IDENTITY = {"accept-encoding": "identity"}


class Saved(Struct, frozen=True, kw_only=True):
    """A file that was fetched; `new` is False for one that was there already. Its size is in bytes."""

    path: Path
    size: int
    sha256: str
    new: bool = True


class Files(Transport):
    """The result files that the server saved."""

    def download(
        self,
        task_id: str,
        result: int,
        path: Path,
        on_progress: Progress | None = None,
        *,
        overwrite: bool = False,
        patience: float = USUAL,
        pause: Callable[[float], object] | None = None,
    ) -> Saved:
        """Fetches the file of a task's result, counted from 0, and returns it when its content is what was saved.

        It appears under its name when it is whole; until then it lies beside, and is continued by the next call. A
        server that is away is waited for `patience` seconds. Raises FileExistsError for another file of that name,
        unless `overwrite`, and OSError.
        """
        url = f"/api/tasks/{quote(task_id, safe='')}/files/{result}"
        asked = Patience(patience, longest=ALONE, pause=pause)
        head = asked.ask(lambda: self._send(self._http.build_request("HEAD", url)))
        digest, size = _promised(head)
        if path.exists():
            if _sha256(path) == digest:
                return Saved(path=path, size=size, sha256=digest, new=False)
            if not overwrite:
                raise FileExistsError(f"{path} exists already, with another content")
        part = path.with_name(f".{path.name[:100]}.{digest[:16]}.part")
        asked.ask(partial(self._go_on, url, part, size, head.headers.get("etag", ""), on_progress))
        if _sha256(part) != digest:
            part.unlink()
            raise ApiError(200, "damaged", f"what came for {path.name} is not what was saved; fetch it again")
        part.replace(path)
        return Saved(path=path, size=size, sha256=digest)

    def _go_on(self, url: str, part: Path, size: int, etag: str, on_progress: Progress | None) -> None:
        """Fetches what is missing of a file, and all of it when it has changed meanwhile."""
        with part.open("ab") as file:
            done = file.tell()
            if done >= size:
                file.truncate(size)
                return
            headers = {"range": f"bytes={done}-", "if-range": etag} if done else {}

            def begin(answer: httpx.Response) -> int:
                if answer.status_code == PARTIAL:
                    return done
                file.truncate(0)
                return 0

            def tell(done: int, _: int | None) -> None:
                if on_progress is not None:
                    on_progress(done, size)

            # Compressed on the way, its bytes could not be counted.
            self._download(url, file.write, tell, headers=headers | IDENTITY, begin=begin)


def _promised(head: httpx.Response) -> tuple[str, int]:
    """The SHA-256 and the size that the server says a file has."""
    found = DIGEST.fullmatch(head.headers.get("repr-digest", ""))
    length = head.headers.get("content-length", "")
    if found is None or not length.isdigit():
        raise ApiError(head.status_code, "unreadable", "the answer does not say what the file is; is it a receiver?")
    return base64.b64decode(found[1]).hex(), int(length)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
