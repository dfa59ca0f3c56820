"""Difficulty scores of a model as it is: EL2N and GraNd. N = size of the data set, B = samples of a batch, C = classes.

Both leave the model as they found it and run it in eval mode, so that BatchNorm judges each sample by itself. Random
augmentation in the data set blurs them; pass a loader over the plain samples.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader

from leantrain.embed.passes import Unreadable, embed
from leantrain.scoring.scorer import per_sample_loss, read_pair, uncompiled, undisturbed
from leantrain.utils import memory, nested_batch, validation

Forward = Callable[[nn.Module, Any], tuple[Any, Any]]


def el2n(probabilities: Tensor, targets: Tensor) -> Tensor:
    """||p - y||_2 of each sample, from ``probabilities`` (B, C) and labels ``targets`` (B,). Returns (B,) in 0..sqrt 2.

    Raises:
        ValueError: other shapes, or a label outside the classes.
    """
    if probabilities.ndim != 2 or targets.shape != probabilities.shape[:1] or targets.is_floating_point():
        raise ValueError(
            f"EL2N got probabilities {tuple(probabilities.shape)} and targets {tuple(targets.shape)} of type "
            f"{targets.dtype}; expected (B, C) and (B,) class labels."
        )
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < probabilities.shape[1]:
        raise ValueError(
            f"targets range from {int(targets.min())} to {int(targets.max())}; the model has "
            f"{probabilities.shape[1]} classes, 0 to {probabilities.shape[1] - 1}."
        )
    return (probabilities - F.one_hot(targets.long(), probabilities.shape[1])).norm(dim=1)


def el2n_scores(
    model: nn.Module, loader: DataLoader[Any], *, forward: Forward | None = None, unreadable: Unreadable = "raise"
) -> Tensor:
    """EL2N of every sample of ``loader``'s data set, in its own order. Returns (N,) float32.

    Args:
        model: a classifier, trained for a few epochs; average the scores of several seeds for better ones.
        loader: the training DataLoader.
        forward: how a batch becomes (logits, targets), as in ``scorer``; by default a batch is (inputs, targets).
        unreadable: as for ``embed``.
    """
    read = forward or read_pair

    def score(batch: Any) -> Tensor:
        device = next(model.parameters()).device
        with undisturbed(model, device):
            logits, targets = read(model, nested_batch.to(batch, device))
            return el2n(logits.float().softmax(dim=1), targets).unsqueeze(1)

    return embed(loader, score, name="EL2N", unreadable=unreadable).values.squeeze(1)


def grand_scores(
    model: nn.Module,
    loader: DataLoader[Any],
    loss_fn: Callable[..., Tensor] = F.cross_entropy,
    *,
    forward: Forward | None = None,
    chunk_size: int = 8,
    unreadable: Unreadable = "raise",
) -> Tensor:
    """GraNd of every sample of ``loader``'s data set, in its own order: the norm of its loss's gradient.

    The gradient is exact and over all trainable parameters. At initialisation it did not reproduce as a pruning score
    (Kirsch 2023, arXiv 2303.14753); train the model for some epochs first.

    Args:
        model: as initialised or trained; average the scores of several seeds for better ones.
        loader: the training DataLoader; its batches hold tensors only.
        loss_fn: as in ``scorer``: gives one loss a sample.
        forward: how a batch becomes (outputs, targets), as in ``scorer``; by default a batch is (inputs, targets).
            It is asked with batches of one.
        chunk_size: samples whose gradients stand in memory together; each takes as much as the parameters. Where
            ``vmap`` cannot take the model, they are taken one by one.
        unreadable: as for ``embed``.

    Returns:
        (N,) float32.
    """
    validation.integer("chunk_size", chunk_size, least=1)
    whole = _Loss(model, forward or read_pair, per_sample_loss(loss_fn))
    weights = {f"model.{name}": value.detach() for name, value in model.named_parameters() if value.requires_grad}
    if not weights:
        raise ValueError(f"{type(model).__name__} has no trainable parameters, so there is no gradient to take.")

    held = chunk_size * sum(value.nbytes for value in weights.values())
    part = memory.Part(f"gradients of {chunk_size} samples", held, "a smaller chunk_size, or EL2N")
    memory.check_fits([part], next(iter(weights.values())).device)

    def norm(sample: Any) -> Tensor:
        gradient = grad(lambda values: functional_call(whole, values, (sample,)))(weights)
        return torch.stack([part.square().sum() for part in gradient.values()]).sum().sqrt().unsqueeze(0)

    def score(batch: Any) -> Tensor:
        device = next(model.parameters()).device
        moved = nested_batch.to(batch, device)
        with undisturbed(model, device), uncompiled():
            try:
                return vmap(norm, chunk_size=chunk_size)(moved)
            except RuntimeError:
                # vmap does not take autocast, channels_last and some operations; an error that has nothing to do with
                # vmap comes up again here.
                count = nested_batch.size(moved) or 0
                rows = [tree_map(lambda leaf, row=row: leaf[row], moved) for row in range(count)]
                return torch.stack([norm(row) for row in rows])

    return embed(loader, score, name="GraNd", unreadable=unreadable).values.squeeze(1)


class _Loss(nn.Module):
    """The loss of one sample as a module, so that ``functional_call`` reaches the model inside the user's forward."""

    def __init__(self, model: nn.Module, read: Forward, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self.read, self.loss = model, read, loss

    def forward(self, sample: Any) -> Tensor:
        outputs, targets = self.read(self.model, tree_map(lambda leaf: leaf.unsqueeze(0), sample))
        return self.loss(outputs, targets).sum()
