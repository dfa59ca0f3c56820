"""Scoring passes: the loss of each sample of a batch, without a trace left on the model. B = samples of a batch."""

import contextlib
import copy
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from leantrain.scoring import loss_shapes
from leantrain.utils import nested_batch, validation


class Scores(NamedTuple):
    """What a scoring pass tells of each sample.

    Args:
        losses: (B,) float32.
        correct: (B,) bool, or None when the outputs are not class scores.
        confidence: (B,) float32, the largest softmax probability over classes, or None.
    """

    losses: Tensor
    correct: Tensor | None = None
    confidence: Tensor | None = None

    def take(self, rows: Tensor) -> "Scores":
        """The same of some samples: positions, or (B,) bool."""
        return Scores(self.losses[rows], *(None if fact is None else fact[rows] for fact in self[1:]))

    def cpu(self) -> "Scores":
        """The same on the CPU, as float32. In one transfer: each makes the host wait for the device."""
        losses = self.losses.detach().float()
        if self.correct is None or self.confidence is None:
            return Scores(losses.cpu(), *(None if fact is None else fact.cpu() for fact in self[1:]))
        rows = torch.stack([losses, self.correct.to(losses), self.confidence.detach().to(losses)]).cpu()
        return Scores(rows[0], rows[1] > 0, rows[2])


def scorer(
    model: nn.Module,
    loss_fn: Callable[..., Any] | None = None,
    *,
    mode: Literal["eval", "train"] = "eval",
    forward: Callable[[nn.Module, Any], Any] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
    chunk: int | None = None,
) -> Callable[[Any], Scores]:
    """A scoring function for ``wrap(score=...)``.

    The model runs in eval mode without gradient. Its training flags, BatchNorm statistics, gradients and the random
    streams of torch are afterwards what they were, also when it is compiled or wrapped, and after an error.

    A detector gives its losses itself, in training mode only: ``scorer(detector, mode="train")`` reads a batch of
    (images, targets) and tells the sum of each image's losses, image by image, which is slow (``one_by_one``).

    Where the pass weighs, ask for ``channels_last``, a ``dtype`` of lower precision, and on the CPU a ``chunk`` of 32;
    how much each of them saves stands in ``results/benchmarks/scoring-forward.json``. ``torch.compile(model)`` can be
    given instead of the model.

    Args:
        model: the model being trained.
        loss_fn: a functional loss (``F.cross_entropy``), a loss module, or any function of (outputs, targets) that
            gives one loss a sample, or a dict of such to be added up. ``reduction="none"`` is set where the loss knows
            it. Losses of tokens or pixels become one a sample by ``per_sample``. None: the model tells them itself.
        mode: ``"train"`` for a model that gives losses in training mode only: dropout and BatchNorm then work as in
            training, on copies of the buffers, and layers that are kept in eval mode stay so.
        forward: how a batch becomes (outputs, targets), or without a ``loss_fn`` losses as that would give. By default
            a batch is a pair (inputs, targets). For others, say:
            ``forward=lambda model, batch: (model(batch["pixels"]), batch["label"])``.
        device: where batches are moved to; by default where the model's parameters are.
        dtype: run under autocast with this type, for example ``torch.bfloat16``.
        channels_last: lay out images, the (B, C, H, W) tensors of a batch, channels last, which convolutions run faster
            on. The losses then differ by rounding. A model that calls ``view`` on feature maps cannot take it.
        chunk: most samples that go through the model at once; by default all of the batch. A CPU is faster on few,
            whose activations stay in its caches, and needs less memory; the losses differ by rounding. For batches as
            ``default_collate`` makes them.

    Returns:
        A function of a batch that gives ``Scores``.
    """
    loss = None if loss_fn is None else per_sample_loss(loss_fn)
    read = forward or (read_pair if loss_fn is not None else _read_losses)
    validation.one_of("mode", mode, ["eval", "train"])
    if chunk is not None:
        validation.integer("chunk", chunk, least=1)

    def forwarded(batch: Any) -> Scores:
        if loss is None:
            return as_scores(read(model, batch))
        outputs, targets = read(model, batch)
        return Scores(as_scores(loss(outputs, targets)).losses, *judge(outputs, targets))

    def score(batch: Any) -> Scores:
        parameter = next(model.parameters(), None)
        place = torch.device(device or (parameter.device if parameter is not None else "cpu"))
        moved = nested_batch.to(batch, place)
        moved = nested_batch.channels_last(moved) if channels_last else moved
        with undisturbed(model, place, mode), torch.autocast(place.type, dtype=dtype, enabled=dtype is not None):
            parts = [moved] if chunk is None else nested_batch.split(moved, chunk)
            scores = [forwarded(part) for part in parts]
        if len(parts) == 1:
            return scores[0]
        for part, (losses, *_) in zip(parts, scores, strict=True):
            check_losses(losses, nested_batch.size(part) or 0, "loss_fn(outputs, targets)")
        joined = [None if facts[0] is None else torch.cat(facts) for facts in zip(*scores, strict=True)]
        return Scores(*joined)  # pyright: ignore[reportArgumentType]

    return score


class undisturbed:
    """No gradient within, and eval mode; or training mode, as the model has it or else for all of it, on copies of its
    buffers. Training flags, buffers and random streams are restored on leaving, also after an error."""

    def __init__(self, model: nn.Module, device: torch.device, mode: Literal["eval", "train"] = "eval") -> None:
        self.model, self.device, self.mode = model, device, mode
        self.buffers: list[tuple[dict[str, Tensor | None], dict[str, Tensor | None]]] = []

    def __enter__(self) -> None:
        self.flags = [(module, module.training) for module in self.model.modules()]
        self.grad = torch.no_grad()
        self.rng = torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])
        self.grad.__enter__()
        self.rng.__enter__()
        if self.mode == "eval":
            self.model.eval()
            return
        # Not copied back: a graph that waits for its backward pass may hold the buffers themselves.
        self.buffers = [(module._buffers, dict(module._buffers)) for module, _ in self.flags if module._buffers]
        copies = {
            id(buffer): buffer.clone() for _, own in self.buffers for buffer in own.values() if buffer is not None
        }
        for used, own in self.buffers:
            used.update({name: copies.get(id(buffer)) for name, buffer in own.items()})
        if not self.model.training:
            self.model.train()

    def __exit__(self, *error: Any) -> None:
        for module, flag in self.flags:  # module by module: a user may keep some layers in eval mode
            module.training = flag
        for used, own in self.buffers:
            used.update(own)
        self.rng.__exit__(*error)
        self.grad.__exit__(*error)


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Within, compiled models run as they are written: a graph compiled before would not call a new hook."""
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled; loading it takes seconds
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


def as_scores(told: Any) -> Scores:
    """What a scoring function told, as ``Scores``: those themselves, losses, or a dict of losses to be added up."""
    if isinstance(told, Scores):
        return told
    return Scores(loss_shapes.per_sample(told) if isinstance(told, Mapping) else told)


def judge(outputs: Any, targets: Any) -> tuple[Tensor | None, Tensor | None]:
    """Correctness (B,) bool and confidence (B,) float32 of class scores (B, C) and labels (B,); None for others."""
    classification = (
        isinstance(outputs, Tensor)
        and isinstance(targets, Tensor)
        and outputs.ndim == 2
        and targets.shape == outputs.shape[:1]
        and not targets.is_floating_point()
    )
    if not classification:
        return None, None
    confidence, predicted = outputs.detach().float().softmax(dim=1).max(dim=1)
    return predicted == targets, confidence


def check_losses(losses: Any, expected: int, source: str) -> Tensor:
    """``losses`` if it holds one number a sample; otherwise an error that says what to change in ``source``."""
    if not isinstance(losses, Tensor):
        raise TypeError(f"{source} must be a tensor of {expected} losses, not {type(losses).__name__}.")
    if losses.ndim == 0:
        raise ValueError(
            f'{source} is a single number; expected one loss a sample, shape ({expected},). Pass reduction="none" to '
            "the loss function."
        )
    if losses.shape != (expected,):
        fix = (
            "Average over the other dimensions: losses.flatten(1).mean(1). With void pixels or padding, say what "
            "counts, mask=targets != ignore_index: loader.reduce(losses, mask=mask), and to score "
            "leantrain.per_sample(losses, mask=mask)."
            if losses.ndim > 1
            else (
                "Is it the loss of the batch that the loader gave last? A collate_fn must not leave samples out: let "
                'the data set raise an exception for those, and pass unreadable="skip" to wrap().'
            )
        )
        raise ValueError(f"{source} has shape {tuple(losses.shape)}; expected one loss a sample, ({expected},). {fix}")
    return losses


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Mean of weight times loss, both (B,), in float32 or better: 1 / (1 - r) is not a number of half precision."""
    dtype = torch.promote_types(losses.dtype, torch.float32)
    return (losses.to(dtype) * weights.to(losses.device, dtype)).mean()


def read_pair(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """(outputs, targets) of a batch that is a pair (inputs, targets): how batches are read unless told otherwise."""
    if not isinstance(batch, list | tuple) or len(batch) != 2:
        raise TypeError(
            f"scorer() expected a batch of (inputs, targets), not {type(batch).__name__}. Say how to read it: "
            'scorer(model, loss_fn, forward=lambda model, batch: (model(batch["x"]), batch["y"])).'
        )
    inputs, targets = batch
    return model(inputs), targets


def _read_losses(model: nn.Module, batch: Any) -> Any:
    """The losses of a model that tells them itself, sample by sample, of a batch that is a pair (inputs, targets)."""
    if not isinstance(batch, list | tuple) or len(batch) != 2:
        raise TypeError(
            f"scorer() without a loss_fn expected a batch of (inputs, targets), not {type(batch).__name__}. Say how it "
            "becomes losses: scorer(model, forward=lambda model, batch: leantrain.one_by_one(model, batch))."
        )
    return loss_shapes.one_by_one(model, *batch)


def per_sample_loss(loss_fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``loss_fn`` with ``reduction="none"`` where it knows reductions; the caller's own loss keeps its setting."""
    if isinstance(loss_fn, nn.Module):
        if hasattr(loss_fn, "reduction"):
            loss_fn = copy.copy(loss_fn)
            loss_fn.reduction = "none"  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
        return loss_fn
    try:
        takes_reduction = "reduction" in inspect.signature(loss_fn).parameters
    except (TypeError, ValueError):
        takes_reduction = False
    if takes_reduction:
        return lambda outputs, targets: loss_fn(outputs, targets, reduction="none")
    return loss_fn


def broken(indices: Tensor, losses: Tensor, step: str) -> str:
    """The message about losses (B,) that are not finite: which samples, and what to do."""
    found = indices[~losses.isfinite()].tolist()
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return (
        f"The {step} loss of sample {found[:10]}{more} (indices into the data set) is NaN or infinite. Look at these "
        'samples and the learning rate; nonfinite="skip" or "keep" in wrap() goes on.'
    )
