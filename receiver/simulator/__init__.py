"""A RunningHub in a process, for tests, demonstrations and trying things out. Imports nothing else of this project."""

from receiver.simulator.app import Simulator
from receiver.simulator.callbacks import DeliveryAnswer
from receiver.simulator.delivery import asgi_deliver, post_callback
from receiver.simulator.faults import Fault, Plan
from receiver.simulator.options import Options
from receiver.simulator.serve import create_app
from receiver.simulator.tasks import Status
from receiver.simulator.workflows import App, AppNode, Workflow

__all__ = [
    "App",
    "AppNode",
    "DeliveryAnswer",
    "Fault",
    "Options",
    "Plan",
    "Simulator",
    "Status",
    "Workflow",
    "asgi_deliver",
    "create_app",
    "post_callback",
]
