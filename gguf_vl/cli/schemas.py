"""`--task` and `--schema`, as `ask` and `batch` take them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gguf_vl.errors import UsageError

if TYPE_CHECKING:
    from gguf_vl.tasks.task import Task


def task_of(name: str | None, schema: Path | None) -> Task:
    """The task of that name, or a question of one's own; a schema takes the place of the task's.

    Raises `UsageError` for a task that there is not, and as `read_schema`.
    """
    from gguf_vl.tasks.task import find, free

    held = read_schema(schema) if schema else None
    if name is None:
        return free(held)
    task = find(name)
    return task if held is None else task.held_to(held)


def read_schema(path: Path) -> Any:
    """The JSON schema in a file. Raises `UsageError` for one that no answer can be held to, before a model loads."""
    import json

    from gguf_vl.engine.grammar.schema import grammar_of

    try:
        schema = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"The schema {path} cannot be read: {error.strerror}.", "Check its path.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The schema {path} is not JSON: {error}.", "Mend the file.") from error
    grammar_of(schema)
    return schema
