"""No class vanishes: a floor below what a selector keeps of each, and which classes lost most."""

from leantrain.core.class_usage import kept_by_class, lost_most
from leantrain.methods.class_floor import ClassFloor

__all__ = ["ClassFloor", "kept_by_class", "lost_most"]
