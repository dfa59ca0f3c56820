"""Record what a method selects, and train on it again."""

from leantrain.replay.record_replay import Record, Replay

__all__ = ["Record", "Replay"]
