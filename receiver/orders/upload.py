"""Uploading: the same bytes go to the provider once a day at the most, and are known by what they are."""

from collections.abc import Callable

from receiver.model.records import Upload
from receiver.model.rules import is_fresh
from receiver.runninghub.client import FileToSend
from receiver.runninghub.resources import Resources
from receiver.store import Store

ID_PREFIX = "upload:"
ID_DIGITS = 32
"""Of the bytes' SHA-256, in hexadecimal: nobody finds two files that share so many."""


async def upload(
    store: Store, resources: Resources, file: FileToSend, sha256: str, clock: Callable[[], float]
) -> tuple[Upload, bool]:
    """The upload of these bytes at the provider's site, and whether they had to be sent. Raises ProviderError."""
    upload_id = ID_PREFIX + sha256[:ID_DIGITS]
    now = clock()  # before it is sent: the link's day may begin at any time from here on
    known = (await store.uploads([upload_id])).get(upload_id)
    if known is not None and known.sha256 == sha256 and is_fresh(known, now, resources.site):
        return known, False
    stored = await resources.upload(file)
    made = Upload(
        id=upload_id,
        name=file.name,
        type=stored.type or "",
        size=file.size,
        sha256=sha256,
        url=stored.url,
        file_name=stored.file_name,
        at=now,
        site=resources.site,
    )
    await store.add_upload(made)
    return made, True
