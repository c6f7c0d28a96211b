"""The style, the script and the icon of the pages: under names that change with their content, so kept for ever."""

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class _File(NamedTuple):
    type: str
    content: bytes
    packed: bytes


def _read() -> tuple[dict[str, str], dict[str, _File]]:
    names, files = {}, {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in TYPES:
            content = path.read_bytes()
            name = f"{path.stem}.{hashlib.sha256(content).hexdigest()[:12]}{path.suffix}"
            names[path.name] = f"/static/{name}"
            files[name] = _File(TYPES[path.suffix], content, gzip.compress(content, mtime=0))
    return names, files


NAMES, _FILES = _read()
"""The addresses of the files, by their names in the folder."""


async def static_file(request: Request) -> Response:
    file = _FILES.get(request.path_params["name"])
    if file is None:
        raise HTTPException(404)
    headers = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, media_type=file.type, headers={**headers, "content-encoding": "gzip"})
    return Response(file.content, media_type=file.type, headers=headers)
