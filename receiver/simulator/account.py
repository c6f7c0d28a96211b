"""Owns the account: what it has, what things cost, and what falls off it as tasks end."""

import json
from collections.abc import Mapping
from typing import Any

from receiver.simulator.answers import Refused
from receiver.simulator.ids import chance_source
from receiver.simulator.options import SIGNS, TASKS_AT_ONCE, Options
from receiver.simulator.orders import Order
from receiver.simulator.tasks import Status, Task

RATES = {"default": 1.0, "plus": 2.0, "ultra": 4.0}
"""What the machines cost, as multiples of the smallest one."""


class Account:
    """Coins for machine time, money for third parties' models. Neither ever falls below nothing."""

    def __init__(self, options: Options) -> None:
        if options.currency not in SIGNS:
            raise ValueError(f"there is no currency {options.currency!r}")
        if options.api_type not in TASKS_AT_ONCE:
            raise ValueError(f"there is no api type {options.api_type!r}")
        self.coins, self.money = options.coins, options.money
        self._options = options

    def price(self, model: str, params: Mapping[str, Any]) -> str:
        """The money that one run of a model costs, as text. The same input costs the same."""
        if self._options.model_price is not None:
            return f"{self._options.model_price:.2f}"
        words = json.dumps(params, sort_keys=True)
        return f"0.{chance_source(self._options.seed, 'price', model, words).randrange(5, 95):02d}"

    def coin_rate(self, instance_type: str) -> float:
        """The coins that one second on a machine costs."""
        return self._options.coins_per_second * RATES[instance_type]

    def check(self, order: Order) -> None:
        """Refused 414 or 416 when there is not enough for one such task."""
        if order.coin_rate and self.coins < self._options.task_seconds * order.coin_rate:
            raise Refused(414)
        if order.price is not None and self.money < float(order.price):
            raise Refused(416)

    def charge(self, task: Task) -> None:
        """Takes what an ended task cost; only a success costs anything."""
        if task.status is Status.SUCCESS:
            self.coins = max(0.0, self.coins - (task.coins or 0))
            self.money = max(0.0, round(self.money - float(task.order.price or 0), 2))

    def shown(self) -> dict[str, str]:
        """What is left, as texts."""
        return {
            "remainCoins": f"{self.coins:.0f}",
            "remainMoney": f"{self.money:.2f}",
            "currency": self._options.currency,
            "apiType": self._options.api_type,
        }
