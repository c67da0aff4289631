"""Tells a script that would start itself again in every worker process, before it does."""

import ast
import sys
from types import FrameType

from iimt_search.errors import UsageError


def _guarded(source: str, line: int) -> bool:
    """Return whether a line stands within a top-level ``if`` that looks at ``__name__``."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.If) and node.lineno <= line <= (node.end_lineno or node.lineno):
            return any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test))
    return False


def _script_frame(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the main script's top level among the callers, if there is one."""
    main = vars(sys.modules["__main__"])
    while frame is not None:
        if frame.f_globals is main and frame.f_code.co_name == "<module>":
            return frame
        frame = frame.f_back
    return None


def check_script_guard(caller: FrameType | None) -> None:
    """Check that worker processes may import the main script again without running it.

    A notebook and an interactive session have no script, and need no guard.

    Args:
        caller: the frame from which workers are to be started.

    Raises:
        UsageError: the main script starts workers at its top level.
    """
    frame = _script_frame(caller)
    path = None if frame is None else frame.f_globals.get("__file__")
    if frame is None or path is None:
        return
    spec = frame.f_globals.get("__spec__")
    if spec is not None and spec.name.rpartition(".")[2] == "__main__":
        return  # a package run by python -m, whose __main__ is not imported again
    try:
        with open(path, encoding="utf-8") as file:
            guarded = _guarded(file.read(), frame.f_lineno)
    except (OSError, SyntaxError, UnicodeDecodeError):
        return  # spawn cannot import it either
    if not guarded:
        raise UsageError(
            f"{path}:{frame.f_lineno}: worker processes import this script again, and would run it again; "
            f'put the call under `if __name__ == "__main__":`, or give workers=0'
        )
