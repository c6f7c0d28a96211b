"""receiver: the service between those who pay for RunningHub tasks and RunningHub itself."""

from importlib.metadata import version

__version__ = version("receiver")
