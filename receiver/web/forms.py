"""The file in a multipart form, such as curl -F and httpx files= send. It is taken out while it arrives."""

from collections.abc import AsyncIterator
from pathlib import PurePosixPath

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from receiver.model.errors import Refused, invalid

BESIDE_LIMIT = 16 * 1024
"""Bytes of all that stands in a form beside its file."""
COMMANDS = "curl -F file=@one.jpg URL, or curl --data-binary @one.jpg 'URL?name=one.jpg'"


class Form:
    """A form of one file and nothing else. `name` is what the file is called, once its first bytes were read."""

    def __init__(self, boundary: bytes) -> None:
        self.name = ""
        self._files = 0
        self._ended = False
        self._field, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._read_field,
                "on_header_value": self._read_value,
                "on_header_end": self._read_header,
                "on_headers_finished": self._begin,
                "on_part_data": lambda data, start, end: self._pieces.append(data[start:end]),
                "on_end": self._end,
            },
        )

    async def file(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The bytes of the form's file. Raises Refused for a form that holds anything else, or breaks off."""
        beside = 0
        async for chunk in body:
            try:
                self._parser.write(chunk)
            except FormParserError:
                raise invalid("body", f"the form cannot be read; send the file with {COMMANDS}") from None
            pieces, self._pieces = self._pieces, []
            beside += len(chunk) - sum(map(len, pieces))
            if beside > BESIDE_LIMIT:
                raise invalid("body", f"expected a form of one file; send it with {COMMANDS}")
            for piece in pieces:
                yield piece
        if not (self._files and self._ended):
            raise invalid("body", f"the form ends before its file does, or has none; send one with {COMMANDS}")

    def _read_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _read_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _read_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _begin(self) -> None:
        _, said = parse_options_header(self._headers.get(b"content-disposition"))
        name = said.get(b"name", b"").decode(errors="replace")[:100]
        if b"filename" not in said:
            raise invalid(name, f"a form holds the file alone; write all else into the address, as in ?{name}=…")
        self._files += 1
        if self._files > 1:
            raise invalid(name, "a form holds one file; upload them one by one")
        self.name = PurePosixPath(said[b"filename"].decode(errors="replace")).name

    def _end(self) -> None:
        self._ended = True


def form_of(request: Request) -> Form | None:
    """The form that a request sends; None when its body is no form. Raises Refused (415) for one that has no end."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if not kind.startswith(b"multipart/"):
        return None
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Refused(415, "unsupported_form", f"expected multipart/form-data with its boundary: {COMMANDS}")
    return Form(options[b"boundary"])
