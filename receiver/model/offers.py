"""What the API shows beside the ledger: apps and workflows, uploads, and orders that are only looked at."""

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import asdict

from receiver.model.records import End, Node, Price, Result, TaskError, Upload, rfc3339


class NodeView(Struct, frozen=True, kw_only=True):
    """A field of a node; `value` is what it has, `options` are its choices; `name`, `description`: as the provider has
    them, for quick creations."""

    node: str
    field: str
    value: object
    type: str
    title: str
    options: list[str]
    name: str = ""
    description: str = ""


class AppView(Struct, frozen=True, kw_only=True):
    """An AI app, or a workflow (which has no name here), with the fields of its nodes that may be set."""

    id: str
    name: str
    nodes: list[NodeView]


class UploadView(Struct, frozen=True, kw_only=True):
    """An uploaded file; until `expires_at` an order may hold its `id` where it takes a file."""

    id: str
    name: str
    type: str
    size: int
    sha256: str
    download_url: str
    file_name: str
    expires_at: str


class FileNameView(Struct, frozen=True, kw_only=True):
    """A file that was brought for nodes alone: the name that a node's field takes for it."""

    file_name: str


class StatusView(Struct, frozen=True, kw_only=True):
    """The provider's own word for a task: QUEUED, RUNNING, SUCCESS or FAILED."""

    status: str


class QueueView(Struct, frozen=True, kw_only=True):
    """How many tasks the key may run at once, and how many run, wait and are there in all. None: not said."""

    limit: int | None
    running: int | None
    queued: int | None
    total: int | None


class AccountView(Struct, frozen=True, kw_only=True):
    """The account at the provider; amounts are decimal texts. `queue` is None when the provider tells none."""

    coins: str | None
    money: str | None
    currency: str | None
    tasks: str | None
    type: str | None
    queue: QueueView | None


class OutputsView(Struct, frozen=True, kw_only=True):
    """What the provider's outputs endpoint says of a task, asked now. `state` is how it ended; None: it has not."""

    state: End | None
    results: list[Result]
    error: TaskError | None
    usage: Mapping[str, object]


class WebhookView(Struct, frozen=True, kw_only=True):
    """A task's callback as the provider keeps it: its id there, SUCCESS or FAILED (None: not tried yet), what our door
    or the network answered, and how often it was tried again."""

    id: str
    status: str | None
    response: str
    retry_count: int


class PreviewView(Struct, frozen=True, kw_only=True):
    """An order as it would be sent, and its price; `price_problem` says why there is none."""

    kind: str
    api: str
    target: str
    input: Mapping[str, object]
    labels: dict[str, str]
    note: str | None
    price: Price | None
    price_problem: str | None


def app_view(id: str, name: str, nodes: Iterable[Node]) -> AppView:
    return AppView(id=id, name=name, nodes=[NodeView(**asdict(node)) for node in nodes])


def upload_view(upload: Upload, expires_at: float) -> UploadView:
    return UploadView(
        id=upload.id,
        name=upload.name,
        type=upload.type,
        size=upload.size,
        sha256=upload.sha256,
        download_url=upload.url,
        file_name=upload.file_name,
        expires_at=rfc3339(expires_at) or "",
    )
