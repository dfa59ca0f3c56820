"""Losses of other shapes, made one a sample: several terms; tokens or pixels, some of them void; packed rows; and those
of a model that gives a single number for a whole batch.

B = samples of a batch, T = tokens of a row.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from leantrain.distributed.process_group import Ranks


class Sums(NamedTuple):
    """The losses of a batch whose samples have several each, or none.

    Args:
        totals: (B,) sums of those that count, float32 or better.
        counts: (B,) int64, of how many.
    """

    totals: Tensor
    counts: Tensor

    def per_sample(self) -> Tensor:
        """(B,) means; 0 where nothing counts."""
        return self.totals / self.counts.clamp(min=1)

    def mean(self, weights: Tensor | None, ranks: Ranks) -> Tensor:
        """Mean over all that counts in the batch, on all ranks once their gradients are averaged; ``weights`` (B,)."""
        totals = self.totals if weights is None else self.totals * weights.to(self.totals.device, self.totals.dtype)
        count = self.counts.sum()
        if ranks.count > 1:
            count = torch.cat(ranks.gather(count.cpu().reshape(1))).sum().to(totals) / ranks.count
            return totals.sum() / count.clamp(min=1 / ranks.count)
        return totals.sum() / count.clamp(min=1)


def per_sample(
    losses: Tensor | Mapping[str, Tensor],
    *,
    weights: Mapping[str, Any] | None = None,
    mask: Tensor | None = None,
    sample_ids: Tensor | None = None,
) -> Tensor:
    """One loss a sample (B,), as a scoring function tells it: the mean over what counts of it, 0 if nothing does.

    For the ``loss_fn`` of ``scorer``, and scoring functions of one's own. ``Loader.reduce`` takes the same arguments::

        def loss_fn(logits, labels):  # (B, T, C), (B, T)
            losses = F.cross_entropy(logits.mT, labels, reduction="none", ignore_index=-100)
            return leantrain.per_sample(losses, mask=labels != -100)

    Args:
        losses: (B, ...) losses, for example of tokens (B, T) or pixels (B, H, W); or a dict of terms of one shape,
            which are added up.
        weights: factors of the terms by name; 1 where none is given.
        mask: bool or 0 and 1, of the losses' shape: what counts. ``mask=targets != ignore_index``.
        sample_ids: integers of the losses' shape, whatever that is: to which sample of the batch, from 0, each of
            the losses belongs; negative for padding. For rows into which several samples are packed.
    """
    found = by_sample(losses, None, weights=weights, mask=mask, sample_ids=sample_ids)
    return found.per_sample() if isinstance(found, Sums) else found


def by_sample(
    losses: Any, size: int | None, *, weights: Any = None, mask: Any = None, sample_ids: Any = None
) -> Tensor | Sums:
    """``losses`` with their terms added up; as ``Sums`` where a mask or sample ids say what belongs to whom.

    Args:
        size: B, where it is known.

    Raises:
        TypeError, ValueError: what is given does not fit together; the message says what would.
    """
    if isinstance(losses, Mapping):
        losses = _added_up(losses, weights)
    elif weights is not None:
        raise TypeError(
            f"weights are those of the terms in a dict of losses, here a {type(losses).__name__}; the samples' come "
            "from the method."
        )
    if (mask is None and sample_ids is None) or not isinstance(losses, Tensor):
        return losses  # which is checked where its use is known
    counts = torch.ones_like(losses, dtype=torch.bool)
    if mask is not None:
        counts = _fitting("mask", mask, losses)
        if not bool(((counts == 0) | (counts == 1)).all()):
            raise ValueError("mask holds other numbers than 0 and 1. Of labels make one: mask=labels != ignore_index.")
        counts = counts.bool()
    dtype = torch.promote_types(losses.dtype, torch.float32)  # the sum over an image is no number of half precision
    if sample_ids is None:
        rows = len(losses), math.prod(losses.shape[1:])
        counted = losses.where(counts, 0).reshape(rows)  # whatever stands in void places, NaN too, touches nothing
        return Sums(counted.sum(1, dtype=dtype), counts.reshape(rows).sum(1))
    ids = _fitting("sample_ids", sample_ids, losses)
    named = ids[ids >= 0].bincount(minlength=size or 0)
    if size is not None and (len(named) > size or not bool(named.all())):
        raise ValueError(
            f"sample_ids must name each of the batch's {size} samples, from 0 to {size - 1}, and no other; here they "
            f"name {named.nonzero().flatten().tolist()[:10]}. All samples that the loader gives must be in the rows."
        )
    counts = (counts & (ids >= 0)).flatten()
    owners, counted = ids.clamp(min=0).flatten(), losses.flatten().where(counts, 0).to(dtype)
    return Sums(
        counted.new_zeros(len(named)).index_add(0, owners, counted),
        counts.new_zeros(len(named), dtype=torch.int64).index_add(0, owners, counts.long()),
    )


def one_by_one(model: Any, *batch: Any) -> Any:
    """Each sample's loss, of a model that gives a single number for a whole batch: it is called with batches of one.

    Slow: B small passes in place of one, on a GPU often several times its time. Where the model's code can be had, a
    loss with ``reduction="none"`` is the better way. For torchvision's detectors in training mode::

        losses = one_by_one(detector, images, targets)     # {"loss_classifier": (B,), "loss_box_reg": (B,), ...}
        loss = loader.reduce(losses)                        # or scorer(detector, mode="train"), to judge by them

    Where the loss of a batch is not the mean over its samples, as with detectors that divide by the boxes of a batch,
    the mean of these is another number. BatchNorm in training mode sees a single sample: freeze it, as detectors do.

    Args:
        model: or any function of such a batch, that gives a scalar or a dict of scalars.
        batch: what it takes, each a tensor (B, ...), a list or tuple of B entries, or a dict of these.

    Returns:
        (B,) losses, or a dict of such, with gradient.
    """
    sizes = {_length(part) for part in batch}
    if len(sizes) != 1:
        raise ValueError(f"The parts of a batch must be of one length to be taken one by one, not {sorted(sizes)}.")
    found = [model(*(_only(part, at) for part in batch)) for at in range(*sizes)]
    if not found:
        raise ValueError("An empty batch has no losses.")
    if isinstance(found[0], Mapping):
        if any(one.keys() != found[0].keys() for one in found):
            raise ValueError(f"The model gives other terms of one sample than of another: {[*map(list, found)]}.")
        return {name: _stacked([one[name] for one in found], f"losses[{name!r}]") for name in found[0]}
    return _stacked(found, "what the model gives")


def _added_up(losses: Mapping[str, Any], weights: Any) -> Tensor:
    weights = {} if weights is None else weights
    if not isinstance(weights, Mapping) or set(weights) - set(losses):
        raise ValueError(f"weights={weights!r} must be a dict by names of the losses, which are {list(losses)}.")
    first: Any = next(iter(losses.values()), None)
    for name, term in losses.items():
        if not isinstance(term, Tensor) or not term.ndim or term.shape != first.shape:
            what = f"shape {tuple(term.shape)}" if isinstance(term, Tensor) else f"type {type(term).__name__}"
            raise ValueError(
                f"losses[{name!r}] has {what}; expected one loss a sample, and the same shape for all of "
                f"{list(losses)}. A model that gives single numbers can be asked sample by sample, which is slow: "
                "leantrain.one_by_one(model, images, targets)."
            )
    if first is None:
        raise ValueError("losses is an empty dict; expected one loss a sample for each of its terms.")
    terms = [term * weights[name] if name in weights else term for name, term in losses.items()]
    return sum(terms[1:], terms[0])


def _fitting(name: str, given: Any, losses: Tensor) -> Tensor:
    """``given`` on the losses' device, if it has an integer or bool for each of them."""
    if not isinstance(given, Tensor) or given.is_floating_point() or given.is_complex():
        what = given.dtype if isinstance(given, Tensor) else type(given).__name__
        raise TypeError(f"{name} must be a tensor of integers{' or bool' * (name == 'mask')}, not {what}.")
    if given.shape != losses.shape or not losses.ndim:
        raise ValueError(
            f"{name} has shape {tuple(given.shape)} and the losses {tuple(losses.shape)}; expected one entry a loss. "
            f'Compute them with reduction="none"; flattened ones get their rows back by losses.view({name}.shape).'
        )
    return given.to(losses.device)


def _length(part: Any) -> int:
    if isinstance(part, Mapping) and part:
        return _length(next(iter(part.values())))
    if isinstance(part, Tensor | Sequence) and not isinstance(part, str | bytes):
        return len(part)
    raise TypeError(f"A batch's part is a tensor, a list or a dict of these, not {type(part).__name__}.")


def _only(part: Any, at: int) -> Any:
    """The batch of the sample ``at`` alone."""
    if isinstance(part, Mapping):
        return {name: _only(value, at) for name, value in part.items()}
    return part[at : at + 1]


def _stacked(losses: list[Any], what: str) -> Tensor:
    wrong = [loss for loss in losses if not isinstance(loss, Tensor) or loss.numel() != 1]
    if wrong:
        shape = tuple(wrong[0].shape) if isinstance(wrong[0], Tensor) else type(wrong[0]).__name__
        raise ValueError(f"For a batch of one, {what} must be a single number, not {shape}.")
    return torch.stack([loss.reshape(()) for loss in losses])
