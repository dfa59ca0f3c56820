"""Images that cannot be read: an error that names the first and the way out, or left out with a warning."""

import dataclasses
import warnings
from typing import Literal

import torch
from torch import Tensor

from leantrain.data.datasets import ImageData
from leantrain.data.images import LazyDataset
from leantrain.data.readers.decode import UnreadableError, try_all

Unreadable = Literal["raise", "skip"]

_NAMED = 5


def left_out(broken: dict[int, UnreadableError], count: int, where: str, policy: Unreadable) -> Tensor:
    """Positions of the images of a split that are not ``broken``, ascending, of ``count``.

    Raises:
        UnreadableError: there are broken ones, and the policy is ``"raise"``; or they are more than half.
    """
    if not broken:
        return torch.arange(count)
    first = next(iter(broken.values()))
    if policy == "raise":
        more = f" So are {len(broken) - 1} more of {count:,}." if len(broken) > 1 else ""
        raise type(first)(f'{first}{more} Mend or remove it, or leave such images out: unreadable="skip".') from first
    if 2 * len(broken) > count:
        raise UnreadableError(
            f"{where}: {len(broken):,} of {count:,} images cannot be read, more than half: this is no matter of single "
            f"images. The first: {first}"
        )
    named = [str(error) for error in broken.values()][:_NAMED]
    rest = f" (and {len(broken) - _NAMED} more)" if len(broken) > _NAMED else ""
    warnings.warn(
        f"{where}: {len(broken)} of {count:,} images cannot be read and are left out{rest}: {' '.join(named)}",
        stacklevel=2,
    )
    whole = torch.ones(count, dtype=torch.bool)
    whole[[*broken]] = False
    return whole.nonzero().flatten()


def with_readable_test(data: ImageData, policy: Unreadable) -> ImageData:
    """``data`` with a test set that can be read whole, once all of it was: an epoch would be trained before it shows.

    Raises:
        UnreadableError: as ``left_out``.
    """
    test = data.test
    if not isinstance(test, LazyDataset) or test.tried:
        return data
    kept = left_out(try_all(test.sources, test.names), len(test), f"The test set of {data.name}", policy)
    if len(kept) < len(test):
        test = test.rows(kept)
        data = dataclasses.replace(data, test=test, test_targets=test.targets)
    test.tried = True
    return data
