"""receiver: the service between those who pay for RunningHub tasks and RunningHub itself."""


def __getattr__(name: str) -> str:
    """`__version__`, read when it is asked for: the metadata reader costs every command a tenth of a second."""
    if name == "__version__":
        from importlib.metadata import version

        return version("receiver")
    raise AttributeError(name)
