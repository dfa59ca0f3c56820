"""One of each: of samples that repeat one another exactly, an epoch takes one.

N = size of the data set, M = samples that the sampler can give.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from leantrain.core.exact_repeats import same_content
from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.rng import generator


@dataclass(kw_only=True, eq=False)
class Distinct(Selector):
    """Each epoch takes of every group of equal samples one, drawn at random, with weight 1.

    A group are the samples that are stored alike, byte for byte, and have the same label. Where some are stored alike
    and have different labels, one of these must be wrong: all of them stay, and ``notes`` and ``report`` tell of them.
    In data without repeats it does nothing.

    Args:
        groups: (N,) int64, the same number for samples that repeat one another, where the data set does not show what
            it stores, or for near-copies. By default they are found by ``leantrain.core.exact_repeats``.

        strict: whether data that do not show what they store are an error. Otherwise all samples count as different
            ones, which ``notes`` tells.

    Cost: a hash of what is stored, once; 3 units a sample taken.

    Source: none, this is ours.
    """

    groups: Tensor | None = None
    strict: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.groups
        if given is not None and not (isinstance(given, Tensor) and given.dtype == torch.int64 and given.ndim == 1):
            kind = f"{given.dtype} of shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
            raise TypeError(
                "groups must be a (N,) int64 tensor, with the same number for samples that repeat one another, not "
                f"{kind}."
            )

    def setup(self, run: Run) -> None:
        super().setup(run)
        self._hidden = ""  # why the samples cannot be told apart
        content = self._content(run).unique(return_inverse=True)[1]  # (M,), numbered, as are the labels
        labels = content.new_zeros(len(content)) if run.targets is None else run.targets[run.where]
        labels = labels.unique(return_inverse=True)[1]
        classes = int(labels.max()) + 1
        pairs, group, sizes = (content * classes + labels).unique(return_inverse=True, return_counts=True)
        conflict = (torch.bincount(pairs // classes) > 1)[content]  # stored alike, under several labels
        if len(content) > 1 and not bool(content.any()):
            raise ValueError(
                f"All {len(content):,} samples are the same one: there is nothing to learn from them. Look at how the "
                "data set was read, or at the groups that were given."
            )
        group[conflict] = len(pairs) + torch.arange(int(conflict.sum()))  # each is a group of its own
        sizes = torch.bincount(group)
        self._left_out, self._largest = int((sizes - 1).clamp_min(0).sum()), int(sizes.max())
        self._conflicts = torch.arange(run.size)[run.where][conflict]
        self._group = torch.arange(len(sizes), len(sizes) + run.size)
        self._group[run.where] = group

    def _content(self, run: Run) -> Tensor:
        """(M,) the same for samples that are stored alike."""
        if self.groups is None:
            part = run.dataset if run.pool is None else Subset(run.dataset, run.pool.tolist())
            try:
                return same_content(part, with_labels=run.targets is None)
            except TypeError as error:
                self._hidden = str(error)
                if not self.strict:
                    return torch.arange(run.count)
                raise TypeError(
                    f"{error} Say which samples of yours repeat one another: Distinct(groups=ids), with (N,) int64 ids "
                    "that are the same for copies."
                ) from error
        if len(self.groups) != run.size:
            raise ValueError(f"groups has {len(self.groups)} numbers; give one for each of the {run.size} samples.")
        return self.groups[run.where]

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if not self._left_out:
            return Plan(pool)
        drawn = pool[torch.randperm(len(pool), generator=generator(self.run.seed, epoch, "distinct"))]
        first = torch.full((int(self._group.max()) + 1,), len(drawn))
        first.scatter_reduce_(0, self._group[drawn], torch.arange(len(drawn)), "amin")
        taken = torch.zeros(self.run.size, dtype=torch.bool)
        taken[drawn[first[first < len(drawn)]]] = True
        return Plan(pool[taken[pool]])

    def settings(self) -> dict[str, Any]:
        return {} if self.groups is None else {"groups": "given"}

    @property
    def conflicts(self) -> tuple[int, ...]:
        """Indices of the samples that are stored alike and have different labels, ascending."""
        return tuple(self._conflicts.tolist())

    def report(self) -> dict[str, float]:
        return {"repeats_left_out": self._left_out, "label_conflicts": len(self._conflicts)}

    def notes(self) -> list[str]:
        count = self.run.count
        if self._hidden:
            return [f"Distinct cannot tell which samples repeat one another: {self._hidden}"]
        found = [
            f"Distinct: {self._left_out:,} of {count:,} samples repeat another one, up to {self._largest} times the "
            f"same; each epoch takes one of each, {count - self._left_out:,} samples."
            if self._left_out
            else f"Distinct: none of the {count:,} samples repeats another one of its class; all are taken."
        ]
        if len(self._conflicts):
            named = ", ".join(map(str, self._conflicts[:5].tolist()))
            found.append(
                f"Distinct: {len(self._conflicts):,} samples are the same as one with another label (indices {named}"
                f"{', ...' if len(self._conflicts) > 5 else ''}); they stay. Look at their labels."
            )
        return found
