"""Uploads inside an order: which ones it names, whether they may be used, and what the provider is sent for them.

An order names an upload by its id; the provider is sent a link, or a file name, in that place. A link dies within a
day, but an order may wait in our queue for longer, or be sent again much later. So a task remembers which texts stand
for which uploads, and they are looked up anew whenever it is about to be sent.
"""

from collections.abc import Collection, Mapping
from typing import TypeAlias

import msgspec

from receiver.model.records import JsonObject, Kind, Task, Upload
from receiver.model.rules import is_fresh
from receiver.orders.references import DIGITS, ID, PREFIX, Spot, changed
from receiver.runninghub.catalogue import Param
from receiver.runninghub.validation import file_problem
from receiver.store import Store

Problems: TypeAlias = list[tuple[str, str]]
"""What is wrong, each with its path in the order."""
Named: TypeAlias = Mapping[str, Upload | str]
"""The uploads that an order names, by id; for one that is too old, what to say of it."""
UPLOAD_AGAIN = "upload the file again, and the same bytes get the same id"
MOST = 500
"""How many uploads one order may name; it is more than any model or workflow takes."""


async def named_uploads(store: Store, document: JsonObject, site: str, now: float) -> Named:
    """What is known of the uploads that an order names. `now` in seconds since 1970."""
    names = dict.fromkeys(ID.findall(msgspec.json.encode(document.get("input")).decode()))
    return await _known(store, list(names)[:MOST], site, now)


async def _known(store: Store, names: Collection[str], site: str, now: float) -> Named:
    found = await store.uploads(names) if names else {}
    return {
        name: upload if is_fresh(upload, now, site) else _too_old(name, upload, site) for name, upload in found.items()
    }


class References:
    """What the provider is sent for the uploads that an order names, and everything that is wrong with them.

    `used` tells which were there and what stands for them, `found` what is wrong, and `unknown` which uploads are too
    old or were never there: that is no fault of the order's, which may have been taken when they were young. When
    `checked`, a file must suit its parameter. With `named` None all ids are good, and stay as they are.
    """

    def __init__(self, kind: Kind, named: Named | None, *, checked: bool) -> None:
        self.used: dict[str, str] = {}
        self.found: Problems = []
        self.unknown: Problems = []
        self._kind = kind
        self._named = named
        self._checked = checked

    def sent(self, spot: Spot) -> str:
        """What is sent in a place where a file may be named."""
        path, text, param = spot
        if problem := self._problem(text, param):
            self.found.append((path, problem))
        elif self._named is not None and ID.fullmatch(text):
            upload = self._named.get(text)
            if isinstance(upload, Upload):
                # Models take links, nodes take file names (page "Upload Resource").
                self.used[text] = upload.url if self._kind is Kind.MODEL else upload.file_name
                return self.used[text]
            self.unknown.append((path, upload or f"there is no upload {text[:60]}, or it is too old; {UPLOAD_AGAIN}"))
        return text

    def _problem(self, text: str, param: Param | None) -> str | None:
        """What is wrong with a reference to a file in itself. Where nobody knows a place, it may be any text."""
        if param is None:
            return None
        if self._checked and text.startswith("@"):
            return "upload the file first (POST /api/uploads), and give the id that it gets"
        if text.startswith(PREFIX) and not ID.fullmatch(text):
            return f"expected an upload's id, {PREFIX} and {DIGITS} hexadecimal digits, as it was given"
        upload = self._named.get(text) if self._named is not None and self._checked else None
        return _unsuitable(param, upload) if isinstance(upload, Upload) else None


async def refreshed(store: Store, task: Task, site: str, now: float) -> tuple[JsonObject, dict[str, str], Problems]:
    """A task's input with today's texts for its uploads, these texts by the uploads' ids, and what is wrong.

    `now` in seconds since 1970. With uploads that are too old for `site` the input must not be sent: there would be a
    dead link in it.
    """
    if not task.uploads:
        return task.input, {}, []
    references = References(task.kind, await _known(store, task.uploads, site, now), checked=False)
    names = {text: name for name, text in task.uploads.items()}

    def renewed(spot: Spot) -> str:
        return references.sent(spot._replace(text=names[spot.text])) if spot.text in names else spot.text

    return changed(task.kind, None, task.input, renewed), references.used, references.unknown


def _too_old(name: str, upload: Upload, site: str) -> str:
    """What to say of an upload that cannot be used any more."""
    if upload.site != site and upload.site:
        return f"{upload.name} ({name}) was uploaded to {upload.site}, but tasks go to {site} now; {UPLOAD_AGAIN}"
    return f"the upload of {upload.name} ({name}) is too old, its link dies after a day; {UPLOAD_AGAIN}"


def _unsuitable(param: Param, upload: Upload) -> str | None:
    """What is wrong with an upload for a parameter: by the name that it came with, and by the provider's own."""
    problem = file_problem(param, upload.name, upload.size)
    return problem and (file_problem(param, upload.file_name, upload.size) and problem)
