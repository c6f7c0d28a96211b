"""What a file is by its first bytes, and whether its name says the same. Pure.

An error's page or another kind of picture under a name that is not its own would be paid for, and fail at the provider.
"""

import re

HEAD = 512
"""Bytes of a file that are looked at."""
LORA = "safetensors"
LENGTH = 8
"""Bytes at the beginning of a safetensors file that say how long its header is."""

JUDGED = (
    ("a PNG image", "png", rb"\x89PNG\r\n\x1a\n"),
    ("a JPEG image", "jpg jpeg", rb"\xff\xd8\xff"),
    ("a WebP image", "webp", rb"RIFF.{4}WEBP"),
    ("a GIF image", "gif", rb"GIF8[79]a"),
    ("a TIFF image", "tif tiff", rb"II[*+]\0|MM\0[*+]"),
    ("a BMP image", "bmp", rb"BM"),
    ("an AVIF or HEIC image", "avif heic heif", rb".{4}ftyp(avi[fs]|hei|hev|mif1|msf1)"),
    ("an MPEG-4 video or sound", "mp4 mov m4v m4a", rb".{4}(ftyp|moov|mdat|wide|free|skip|styp|pnot|uuid)"),
    ("a WebM or Matroska video", "webm mkv", rb"\x1aE\xdf\xa3"),
    ("an AVI video", "avi", rb"RIFF.{4}AVI "),
    ("WAV audio", "wav", rb"(RIFF|RF64|BW64).{4}WAVE"),
    ("audio with an ID3 tag", "mp3 aac flac", rb"\0*ID3"),
    ("FLAC audio", "flac", rb"fLaC"),
    ("MP3 or AAC audio", "mp3 aac", rb"\0*\xff[\xe2\xe3\xf0-\xfd]|ADIF"),
    ("Ogg audio or video", "ogg oga ogv opus", rb"OggS"),
    ("a zip archive", "zip", rb"PK(\x03\x04|\x05\x06|\x07\x08)"),
    ("a safetensors file", LORA, rb".{3}[\0-\x06]\0{4}\{"),
)
"""Kinds of files that are known for certain: what they are called, the endings of their names, how they begin."""
TOLD = (
    ("a PDF", rb"%PDF-"),
    ("a gzip archive", rb"\x1f\x8b"),
    ("a multipart form", rb"--[^\r\n]+\r?\ncontent-"),
    ("a pointer of Git LFS, which brings the file itself with git lfs pull", rb"version https://git-lfs"),
    ("a web page", rb"\s*<(!doctype html|html)"),
    ("XML", rb"\s*<[?!a-z]"),
    ("JSON", rb"\s*[\[{]"),
    ("text", rb"[\t\r\n -~]+\Z"),
)
"""Other things that come under their names."""
KINDS = [(what, endings.split(), begins) for what, endings, begins in JUDGED] + [
    (what, [], begins) for what, begins in TOLD
]


def content_problem(name: str, head: bytes, size: int, purpose: str = "file") -> str | None:
    """Why a file is not what its name says, by its first bytes; None when it is, or when its name says nothing known.

    `size` in bytes. A LoRA is safetensors, whatever it is called.
    """
    ending = LORA if purpose == "lora" else name.rpartition(".")[2].casefold()
    wanted = [endings for _, endings, _ in KINDS if ending in endings]
    if not wanted:
        return None
    flags = re.DOTALL | re.IGNORECASE
    found = [(what, endings) for what, endings, begins in KINDS if re.match(begins, head[:HEAD], flags)]
    if any(ending in endings for _, endings in found):
        header = int.from_bytes(head[:LENGTH], "little")
        return f"is cut off: its header has {header} bytes" if ending == LORA and header + LENGTH > size else None
    what, right = found[0] if found else (f"something that begins with {head[:8].hex(' ')}", [])
    hint = f"; if that is meant, name it so (.{right[0]})" if right and purpose != "lora" else ""
    return f"is no {ending} file but {what}{hint}"
