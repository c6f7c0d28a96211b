"""Reads a multipart form: its fields, and its files with the names under which they came."""

import re
from dataclasses import dataclass, field

BOUNDARY = re.compile(r'multipart/form-data\s*;.*?boundary="?([^";,]{1,70})', re.IGNORECASE)
NAME = re.compile(rb'content-disposition:[^\r\n]*?[; ]name="([^"\r\n]*)"', re.IGNORECASE)
FILENAME = re.compile(rb'content-disposition:[^\r\n]*?[; ]filename="([^"\r\n]*)"', re.IGNORECASE)


@dataclass(frozen=True)
class Form:
    """The texts of the fields by name, and by name the filename and the bytes of each file."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)


def read_form(content_type: str, body: bytes) -> Form | None:
    """The form in a body; None for a body that is no multipart form or ends too early."""
    found = BOUNDARY.match(content_type)
    if found is None:
        return None
    form = Form()
    # The first delimiter may stand at the very beginning, without the line break before it.
    for part in (b"\r\n" + body).split(b"\r\n--" + found.group(1).encode())[1:]:
        if part.startswith(b"--"):
            return form
        head, blank_line, content = part.partition(b"\r\n\r\n")
        named, file = NAME.search(head), FILENAME.search(head)
        if not blank_line or named is None:
            return None
        name = named.group(1).decode(errors="replace")
        if file is None:
            form.fields[name] = content.decode(errors="replace")
        else:
            form.files[name] = file.group(1).decode(errors="replace"), content
    return None
