"""Owns what was uploaded: files under the hash of their bytes, kept as long as their links live, and LoRAs by MD5."""

import hashlib
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from receiver.simulator.answers import StorageRefused
from receiver.simulator.files import StoredFile
from receiver.simulator.options import Options

DAY = 86400.0
HOUR = 3600.0
TYPES = {
    **dict.fromkeys(("jpg", "jpeg", "png", "webp"), "image"),
    "zip": "zip",
    **dict.fromkeys(("mp3", "wav", "flac"), "audio"),
    **dict.fromkeys(("mp4", "avi", "mov", "mkv"), "video"),
}
"""The kinds of file that are taken, by extension."""


@dataclass
class Lora:
    """A LoRA that was announced, and came if `size` is known. Its bytes are checked, not kept."""

    name: str
    md5: str
    size: int | None = None


class Uploads:
    """Uploads by path and LoRAs by MD5. Links carry when they end, and a signature, so that nobody prolongs them."""

    def __init__(self, options: Options) -> None:
        self.by_name: dict[str, StoredFile] = {}
        """The uploads, each kept until its last link dies."""
        self.loras: dict[str, Lora] = {}
        self.limit = options.upload_limit
        self._options = options

    def keep(self, prefix: str, filename: str, content: bytes, now: float) -> StoredFile | None:
        """Keeps a file under its hash, or gives None for a kind of file that is not taken.

        The same bytes again only prolong the life of the first.
        """
        if kind_of(filename) is None:
            return None
        self.by_name = {name: upload for name, upload in self.by_name.items() if now < upload.until}
        sha256 = hashlib.sha256(content).hexdigest()
        name = f"{prefix}/{sha256}.{filename.rpartition('.')[2].lower()}"
        upload = self.by_name.setdefault(name, StoredFile(name, len(content), now, sha256, content))
        upload.until = now + DAY
        return upload

    def link(self, upload: StoredFile, now: float) -> str:
        """A URL of the upload that works for a day."""
        return self._signed(f"/files/input/{upload.name}", now + DAY)

    def find(self, path: str, given: QueryParams, now: float) -> StoredFile | None:
        """The upload behind a link, if there is one; StorageRefused for a link that is false or too old."""
        self._verify(path, given, now)
        return self.by_name.get(path.removeprefix("/files/input/"))

    def announce(self, name: str, md5: str, now: float) -> tuple[str, str | None]:
        """The file name of a LoRA and the URL to PUT it to within the hour, None when its bytes are here already."""
        lora = self.loras.setdefault(md5, Lora(name, md5))
        path = f"api-lora-cn/{md5}.safetensors"
        return path, None if lora.size is not None else self._signed(f"/files/{path}", now + HOUR)

    def expects(self, path: str, given: QueryParams, now: float) -> Lora | None:
        """The LoRA that a PUT is for, if any; StorageRefused for a link that is false or too old."""
        self._verify(path, given, now)
        return self.loras.get(path.rpartition("/")[2].removesuffix(".safetensors"))

    def _signed(self, path: str, until: float) -> str:
        time = f"{until:.3f}"
        words = {"q-sign-algorithm": "sha1", "q-sign-time": time, "q-signature": self._signature(path, time)}
        return f"{self._options.link_base}{path}?{urlencode(words)}"

    def _verify(self, path: str, given: QueryParams, now: float) -> None:
        time = given.get("q-sign-time", "")
        if given.get("q-signature") != self._signature(path, time) or now >= float(time):
            raise StorageRefused(403, "AccessDenied")

    def _signature(self, path: str, time: str) -> str:
        return hashlib.sha1(f"{self._options.seed}:{path}:{time}".encode()).hexdigest()


def kind_of(filename: str) -> str | None:
    """The kind of a file by its extension, None for one that is not taken."""
    return TYPES.get(filename.rpartition(".")[2].lower())
