"""The order in which the user's own sampler gives samples. W = number of ranks, B = samples of a batch."""

from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from leantrain.distributed.plan_sync import agreed_order
from leantrain.distributed.process_group import Ranks
from leantrain.utils.sampler_pool import integers, sampler_pool


class UserOrder:
    """What the sampler of a DataLoader says.

    Args:
        loader: the user's.
        size: of the data set.

    Attributes:
        sampler: the user's.
        batch_size: of the user's batches, on one rank; None while unknown.
        drop_last: whether a short last batch is left out.
        plain: whether torch's own BatchSampler makes the batches.
    """

    def __init__(self, loader: DataLoader[Any], size: int, ranks: Ranks) -> None:
        self._loader, self._size, self._ranks = loader, size, ranks
        batches: Any = loader.batch_sampler
        self.batch_size: int | None = getattr(batches, "batch_size", None)
        self.drop_last = bool(getattr(batches, "drop_last", False))
        self.plain = type(batches) is BatchSampler
        # Of a BatchSampler that the user made, the DataLoader itself does not know the sampler.
        self.sampler: Any = batches.sampler if self.plain else loader.sampler

    @property
    def replaceable(self) -> bool:
        """Whether a plan may bring an order of its own: the user's says nothing but shuffle or not, and of what."""
        kinds = (RandomSampler, SequentialSampler, SubsetRandomSampler, DistributedSampler)
        return self.plain and type(self.sampler) in kinds and self.once

    @property
    def once(self) -> bool:
        """Whether a pass gives each sample of ``pool`` once, as far as is known beforehand."""
        kind = type(self.sampler)
        if not self.plain or kind is WeightedRandomSampler:
            return False
        if kind is RandomSampler:
            return not self.sampler.replacement and self.sampler.num_samples == len(self.sampler.data_source)
        if kind is SubsetRandomSampler:
            return len(set(self.sampler.indices)) == len(self.sampler.indices)
        return kind in (SequentialSampler, DistributedSampler)

    def pool(self) -> Tensor | None:
        """(M,) int64, ascending: the samples that the sampler can give; None where only drawing them tells."""
        return sampler_pool(self._loader)

    def batches(self, who: str = "len()") -> int:
        """How many batches the user's DataLoader gives; a TypeError that says that ``who`` needs it, if unknown."""
        try:
            return len(self._loader)
        except TypeError as error:
            own = self.sampler if self.plain else self._loader.batch_sampler
            raise TypeError(
                f"{who} needs a sampler with a length: {type(own).__name__} has no len(). Give it a __len__"
                + (", or tell the length of the training by epochs=." if who != "len()" else ".")
            ) from error

    def samples(self) -> int:
        """How many samples the sampler yields on all ranks, as far as it tells."""
        try:
            yielded = len(self.sampler)
        except TypeError:
            return self._size
        if isinstance(self.sampler, DistributedSampler):
            return min(yielded * self._ranks.count, self._size)
        return yielded

    def draw(self) -> tuple[Tensor, list[int] | None]:
        """What the sampler yields in this epoch, (M,) int64; and the sizes of the user's own batches, if they hold."""
        cuts = None
        if self.plain:
            order = agreed_order(integers(self._whole(self.sampler)), self.sampler, self._ranks)
        else:
            own = [integers(batch) for batch in self._whole(self._loader.batch_sampler)]
            order, cuts = torch.cat([torch.empty(0, dtype=torch.int64), *own]), [len(batch) for batch in own]
            self.batch_size = self.batch_size or max(cuts, default=1)
        size = self._size
        if not len(order):
            raise ValueError(
                f"The {type(self.sampler if self.plain else self._loader.batch_sampler).__name__} yields no sample."
            )
        if int(order.min()) < 0 or int(order.max()) >= size:
            raise ValueError(
                f"The sampler yields indices {int(order.min())} to {int(order.max())}; the data set has {size} "
                f"samples, 0 to {size - 1}."
            )
        return order, cuts

    def _whole(self, sampler: Any) -> list[Any]:
        """All that a sampler yields in an epoch; an endless one, which has no length, is refused."""
        if hasattr(sampler, "__len__"):
            return list(sampler)
        most = 100 * self._size
        found = list(islice(sampler, most + 1))
        if len(found) > most:
            raise ValueError(
                f"{type(sampler).__name__} yields more than {most} times and has no length: is it endless? wrap() "
                "plans epoch by epoch and needs one that ends."
            )
        return found
