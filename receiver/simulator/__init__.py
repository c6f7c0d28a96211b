"""A RunningHub in a process, for tests, demonstrations and trying things out. Imports nothing else of this project."""

from receiver.simulator.app import Simulator
from receiver.simulator.callbacks import Deliver, DeliveryAnswer
from receiver.simulator.delivery import InProcessTransport, asgi_deliver, post_callback
from receiver.simulator.faults import Fault, Plan
from receiver.simulator.ledger import Request, SentCallback
from receiver.simulator.options import Options
from receiver.simulator.outages import Outage
from receiver.simulator.serve import create_app
from receiver.simulator.tasks import Status, Task
from receiver.simulator.workflows import App, AppNode, Style, Workflow

__all__ = [
    "App",
    "AppNode",
    "Deliver",
    "DeliveryAnswer",
    "Fault",
    "InProcessTransport",
    "Options",
    "Outage",
    "Plan",
    "Request",
    "SentCallback",
    "Simulator",
    "Status",
    "Style",
    "Task",
    "Workflow",
    "asgi_deliver",
    "create_app",
    "post_callback",
]
