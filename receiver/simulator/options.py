"""Says how a simulator behaves: every setting once, with its default, its bounds and the words that explain it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any, TypeAlias, TypeVar

from receiver.simulator.faults import Fault, Plan
from receiver.simulator.workflows import APPS, WORKFLOWS, App, Workflow

T = TypeVar("T")
Judge: TypeAlias = Callable[[str, Mapping[str, Any]], str]
"""Gives the file extension of what a model makes; Refused for an unknown model or for parameters that do not fit."""

SIGNS = {"CNY": "¥", "USD": "$"}
"""The currencies, and how a price in them is written."""
TASKS_AT_ONCE = {"NORMAL": 2, "SHARED": 100, "EXCLUSIVE": 1}
"""The kinds of key, and how many tasks the provider says may run at once where there is no limit of our own."""


def setting(default: T, help: str, **facts: object) -> T:
    """A setting that `receiver simulate` offers as an option.

    Facts are `least` and `most` of a number, the `choices` of a text, the `metavar` in the help, and a `fault`.
    """
    return field(default=default, metadata={"help": help, **facts})


def chance(fault: Fault, meaning: str) -> float:
    """How likely a fault befalls a task that has no plan of its own: 0 never, 1 always."""
    return setting(0.0, f"The chance that {meaning}.", least=0, most=1, metavar="P", fault=fault)


@dataclass(frozen=True, kw_only=True)
class Options:
    """All settings of a simulator. Times are in seconds, sizes in bytes. Those without a help text are for tests."""

    port: int = setting(8099, "The port to listen on.", least=1, most=65535)
    host: str = setting("127.0.0.1", "The address to listen on.")
    base_url: str | None = setting(None, "The front of result links.  [default: http://HOST:PORT]", metavar="URL")
    seed: int = setting(0, "The same seed, the same ids, bytes and faults.")
    api_key: str | None = setting(None, "The only key that is accepted.  [default: any]", metavar="KEY")
    task_seconds: float = setting(5.0, "How long a task takes.", least=0)
    delay: float = setting(0.0, "How long every callback is held back.", least=0)
    retry_seconds: tuple[float, ...] = setting((30, 30, 30), "Between attempts of a callback.", metavar="A,B,C")
    late_seconds: float = setting(60.0, "How late a late callback is.", least=0)
    max_in_flight: int | None = setting(None, "Tasks at once; more are refused with 421.", least=1, metavar="N")
    file_size: int = setting(65536, "Bytes of a result file.", least=0)
    link_seconds: float = setting(86400.0, "How long result links live.", least=0)
    away_seconds: float = setting(60.0, "How long a link that is away is away.", least=0)
    callback_on_cancel: bool = setting(False, "A cancelled task calls back as well.")
    api_type: str = setting("SHARED", "The kind of key.", choices=tuple(TASKS_AT_ONCE))
    currency: str = setting("CNY", "What money is in.", choices=tuple(SIGNS))
    coins: float = setting(1e6, "RH coins the account begins with.", least=0)
    money: float = setting(1e6, "Money the account begins with.", least=0)
    coins_per_second: float = setting(0.2, "What a workflow or app costs.", least=0)
    model_price: float | None = setting(None, "What a run of a model costs.  [default: depends on its input]", least=0)
    upload_limit: int = setting(30 * 1024 * 1024, "Bytes of an upload.", least=0)
    drop: float = chance(Fault.LOST_CALLBACK, "a callback never arrives")
    unsent: float = chance(Fault.NEVER_SENT, "a callback is never even sent")
    duplicate: float = chance(Fault.DUPLICATE, "a callback arrives twice")
    late: float = chance(Fault.LATE, "a callback comes late")
    before_answer: float = chance(Fault.BEFORE_ANSWER, "a callback overtakes the answer to its submission")
    junk: float = chance(Fault.JUNK_BODY, "a callback's body is no JSON")
    fail: float = chance(Fault.FAILED, "a task fails")
    no_results: float = chance(Fault.NO_RESULTS, "a task succeeds without results")
    false_claim: float = chance(Fault.FALSE_CLAIM, "a callback claims a success that was a failure")
    early_claim: float = chance(Fault.EARLY_CLAIM, "a callback comes before the task has ended")
    answer_lost: float = chance(Fault.ANSWER_LOST, "the answer to a submission is lost")
    link_away: float = chance(Fault.LINK_AWAY, "a result's link answers 503 at first")

    number_421: bool = False
    """Whether V2 tells error 421 as a number; both were reported."""
    apikey_only: bool = False
    """Whether the account's status takes the key as `apikey` alone, as documented, and not as `apiKey`."""
    personal_queue: int = 1000
    """How many tasks of an EXCLUSIVE key may wait for a machine."""
    workflows: Sequence[Workflow] = WORKFLOWS
    apps: Sequence[App] = APPS
    judge: Judge | None = None
    """What judges the orders of models; None lets every model pass with any parameters."""

    @property
    def link_base(self) -> str:
        """What all links begin with."""
        return (self.base_url or f"http://{self.host}:{self.port}").rstrip("/")

    def draw(self, rng: Random) -> Plan:
        """The plan of one task, by the chances; each is drawn independently."""
        # Every chance is drawn, also a zero one, so that raising one of them leaves the others' outcomes alone.
        chances = [each for each in fields(self) if "fault" in each.metadata]
        drawn = [each.metadata["fault"] for each in chances if rng.random() < getattr(self, each.name)]
        return Plan(frozenset(drawn), delay=self.late_seconds, away=self.away_seconds) if drawn else Plan()
