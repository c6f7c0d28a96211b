"""What an action that calls a Python function is configured with. Pure."""

import re
from typing import Annotated

from receiver.model.definitions import ActionKind, Definition
from receiver.model.fields import Condition, Setting

_FUNCTION = Condition("module:name", re.compile(r"[^:\s]+:[^:\s]+").fullmatch)


class PythonDefinition(Definition, frozen=True, kw_only=True):
    """Calls `function`, given as module:name."""

    kind: ActionKind = ActionKind.PYTHON
    function: Annotated[str, Setting(_FUNCTION)]
