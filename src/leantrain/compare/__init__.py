"""Methods side by side, each next to the full training that takes the same time."""

from leantrain.compare.config import CompareConfig
from leantrain.compare.runner import Job, compare, jobs
from leantrain.compare.summary import summarise

__all__ = ["CompareConfig", "Job", "compare", "jobs", "summarise"]
