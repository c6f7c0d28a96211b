"""Owns what was uploaded: files under the hash of their bytes, kept as long as their links live, and LoRAs by MD5."""

import hashlib
from dataclasses import dataclass
from urllib.parse import urlencode

from receiver.simulator.answers import Refused

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
class Upload:
    """A file that came. `until` is when its last link dies, and the bytes with it."""

    name: str
    type: str
    size: int
    sha256: str
    content: bytes
    until: float


@dataclass
class Lora:
    """A LoRA that was announced, and came if `size` is known. Its bytes are checked, not kept."""

    name: str
    md5: str
    size: int | None = None


class Incoming:
    """A file on its way in: hashed as it comes, and let go of as soon as it is larger than `limit`."""

    def __init__(self, limit: int | None) -> None:
        self.size = 0
        self.content = bytearray()
        self._limit = limit
        self._sha256 = hashlib.sha256()

    def take(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.too_large:
            self.content.clear()
            return
        self._sha256.update(piece)
        self.content += piece

    @property
    def too_large(self) -> bool:
        return self._limit is not None and self.size > self._limit

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


class Uploads:
    """Uploads by path and LoRAs by MD5. Links carry when they end, and a signature, so that nobody prolongs them."""

    def __init__(self, *, seed: int, base_url: str, limit: int | None) -> None:
        self.by_name: dict[str, Upload] = {}
        self.loras: dict[str, Lora] = {}
        self.limit = limit
        self._seed = seed
        self._base_url = base_url.rstrip("/")

    def incoming(self) -> Incoming:
        return Incoming(self.limit)

    def keep(self, prefix: str, filename: str, file: Incoming, now: float) -> Upload | None:
        """Keeps a file under its hash, or gives None for a kind of file that is not taken.

        The same bytes again only prolong the life of the first.
        """
        extension = filename.rpartition(".")[2].lower()
        if extension not in TYPES:
            return None
        self.by_name = {name: upload for name, upload in self.by_name.items() if now < upload.until}
        name = f"{prefix}/{file.sha256}.{extension}"
        if name not in self.by_name:
            content = bytes(file.content)
            self.by_name[name] = Upload(name, TYPES[extension], file.size, file.sha256, content, now)
        self.by_name[name].until = now + DAY
        return self.by_name[name]

    def link(self, upload: Upload, now: float) -> str:
        """A URL of the upload that works for a day."""
        return self._signed(f"/files/input/{upload.name}", now + DAY)

    def find(self, path: str, time: str, signature: str, now: float) -> Upload | None:
        """The upload behind a link that is genuine and alive; Refused 403 for one that is not, None for no upload."""
        self._verify(path, time, signature, now)
        return self.by_name.get(path.removeprefix("/files/input/"))

    def announce(self, name: str, md5: str, now: float) -> tuple[str, str | None]:
        """The file name of a LoRA and the URL to PUT it to within the hour, None when its bytes are here already."""
        lora = self.loras.setdefault(md5, Lora(name, md5))
        path = f"api-lora-cn/{md5}.safetensors"
        return path, None if lora.size is not None else self._signed(f"/files/{path}", now + HOUR)

    def expects(self, path: str, time: str, signature: str, now: float) -> Lora | None:
        """The LoRA that a PUT is for; Refused 403 for a link that is false or too old."""
        self._verify(path, time, signature, now)
        return self.loras.get(path.rpartition("/")[2].removesuffix(".safetensors"))

    def _signed(self, path: str, until: float) -> str:
        time = f"{until:.3f}"
        words = {"q-sign-algorithm": "sha1", "q-sign-time": time, "q-signature": self._signature(path, time)}
        return f"{self._base_url}{path}?{urlencode(words)}"

    def _verify(self, path: str, time: str, signature: str, now: float) -> None:
        if signature != self._signature(path, time) or now >= float(time):
            raise Refused(403, "Request has expired")

    def _signature(self, path: str, time: str) -> str:
        return hashlib.sha1(f"{self._seed}:{path}:{time}".encode()).hexdigest()
