"""What an action that runs a program is configured with. Pure."""

from typing import Annotated

from receiver.model.definitions import ActionKind, Definition
from receiver.model.fields import Condition, Setting

_ARGUMENTS = Condition('a list of a program and its arguments, such as ["notify", "--quiet"]', bool)


class CommandDefinition(Definition, frozen=True, kw_only=True):
    """Runs a program, given as the list of its arguments, never by a shell."""

    kind: ActionKind = ActionKind.COMMAND
    command: Annotated[tuple[str, ...], Setting(_ARGUMENTS)]
