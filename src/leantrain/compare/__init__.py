"""Methods side by side, each next to the full training that takes the same time.

What is named here is imported when it is used: a report reads results without what training needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leantrain.compare.config import CompareConfig
    from leantrain.compare.job import Job, jobs
    from leantrain.compare.runner import compare
    from leantrain.compare.summary import summarise

_FILES = {"CompareConfig": "config", "Job": "job", "compare": "runner", "jobs": "job", "summarise": "summary"}

__all__ = ["CompareConfig", "Job", "compare", "jobs", "summarise"]


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
