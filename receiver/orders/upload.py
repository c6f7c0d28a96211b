"""Uploading: the same bytes go to the provider once a day at the most, and are known by what they are."""

from collections.abc import Callable

from msgspec.structs import asdict

from receiver.model.records import Upload
from receiver.model.rules import is_fresh
from receiver.orders.references import upload_id
from receiver.runninghub.client import FileToSend
from receiver.runninghub.resources import Resources
from receiver.store import Store


async def upload(
    store: Store, resources: Resources, file: FileToSend, sha256: str, clock: Callable[[], float]
) -> tuple[Upload, bool]:
    """The upload of these bytes at the provider's site, and whether they had to be sent. Raises ProviderError."""
    name = upload_id(sha256)
    now = clock()  # before it is sent: the link's day may begin at any time from here on
    known = (await store.uploads([name])).get(name)
    if known is not None and known.sha256 == sha256 and is_fresh(known, now, resources.site):
        return known, False
    stored = await resources.upload(file)
    made = Upload(**asdict(stored), id=name, name=file.name, size=file.size, sha256=sha256, at=now, site=resources.site)
    await store.add_upload(made)
    return made, True
