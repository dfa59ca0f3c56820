"""The two map-style data sets: images held in memory, and images decoded when asked for.

Letters: N data set, B batch, C channels, H W height and width in pixels.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from leantrain.data.readers.decode import decode


class ArrayDataset(Dataset[tuple[Tensor, int]]):
    """Images in memory; sample i is ``(images[i], int(targets[i]))``.

    Args:
        images: (N, C, H, W) uint8.
        targets: (N,) int64.
    """

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        if len(images) != len(targets):
            raise ValueError(f"{len(images)} images and {len(targets)} targets; give one target per image.")
        self.images, self.targets = images, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.targets[index])

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        """A whole batch with one copy; torch's DataLoader calls it when it is there."""
        return list(zip(self.images[indices].unbind(), self.targets[indices].tolist(), strict=True))

    def rows(self, rows: Tensor) -> "ArrayDataset":
        """The samples at ``rows`` (M,), in that order."""
        return ArrayDataset(self.images[rows], self.targets[rows])


class LazyDataset(Dataset[tuple[Tensor, int]]):
    """Images that are read and decoded each time they are asked for, so an unused sample costs nothing.

    Args:
        sources: an image file or its bytes, per sample.
        names: what to call each sample in an error.
        targets: (N,) int64.
        size: the central square is resized to it, so that every sample is a (3, size, size) uint8 tensor,
            in RGB.
    """

    def __init__(self, sources: Sequence[Path | bytes], names: Sequence[str], targets: Tensor, size: int) -> None:
        self.sources, self.names, self.targets, self.size = sources, names, targets, size
        self.tried = False  # whether all of them are known to be readable

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = decode(self.sources[index], self.names[index], size=self.size, mode="RGB")
        return image, int(self.targets[index])

    def rows(self, rows: Tensor) -> "LazyDataset":
        """The samples at ``rows`` (M,), in that order."""
        places = rows.tolist()
        sources = [self.sources[i] for i in places]
        names = [str(self.names[i]) for i in places]
        return LazyDataset(sources, names, self.targets[rows], self.size)
