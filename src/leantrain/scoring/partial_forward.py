"""Score from a cut in the network: only the kept samples of a batch go deeper.

B = samples of a batch, K = those kept, D = features at the cut, s = the cut's share of a forward pass's cost.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leantrain.core.ledger import Ledger
from leantrain.core.plan import Batch
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.scoring.scorer import check_losses, per_sample_loss, undisturbed
from leantrain.utils import nested_batch, validation

LEAST = 2  # samples that go deeper whatever the method says: BatchNorm finds no variance in one


class PartialForward:
    """The training loss of a batch's kept samples, which an online method chooses at a cut within the network::

        partial = PartialForward(model, F.cross_entropy, cut="layer2", selector=Adonis(start_epoch=1))
        for epoch in range(epochs):
            for x, y in loader:
                loss = partial(x, y, epoch=epoch)
                loss.backward(); optimizer.step(); optimizer.zero_grad()

    A small head on the cut's features, trained beside the model, predicts each sample's loss; the method judges by it.
    The head sees detached features and has its own optimizer: the model never feels it. What is kept is trained on at
    once, as a smaller batch; at least two samples, those of largest predicted loss, go on whatever the method says.

    The very first batch is used whole: only its outputs tell the head's size. Nothing is left on the model between
    calls, and no random stream is drawn from.

    Args:
        model: any model of one input whose cut gives (B, ...).
        loss_fn: as for ``scorer``.
        cut: name of the module whose output is cut, one of ``dict(model.named_modules())``.
        selector: an online method that judges by losses alone: ``Adonis``, ``SB`` or ``ComposerSB``.
        batch_norm: what the layers up to the cut are trained on. ``"kept"``: they run on the batch in eval mode,
            without gradient, and again on the kept samples: plain training on these, bit for bit. ``"all"``: one
            forward pass in all; they run on the whole batch once, and their BatchNorm normalises with, and notes, the
            statistics of all B samples. All that comes after the cut must then work on the cut's output alone,
            as in ResNet, MobileNetV2 and ViT. Without BatchNorm before the cut both give the same gradients, but for
            dropout.
        head: maps the cut's output to what ``loss_fn`` takes. By default averages (B, D, H, W) over the cells of a
            4 x 4 grid and (B, tokens, D) over the tokens, normalises, and applies a linear layer, at first zero.
        head_lr: learning rate of the head's Adam.
        epochs: length of the training, for methods that depend on it.
        seed: of the method's random choices.

    Attributes:
        kept: (K,) int64 positions of the last batch that went deeper, ascending.
        predicted: (B,) float32 losses that the head gave the last batch; None before there is a head.

    Cost: ``"kept"`` s + 3 K / B units a sample. ``"all"`` 3 s + 3 (1 - s) K / B, since the backward pass of the layers
    up to the cut runs over the whole batch; that is less only where over two thirds are kept. A scoring pass of the
    whole network instead: 1 + 3 K / B.

    Source: none; the forward pass is cut as in early-exit networks. Differs from a scoring pass: the head's loss is a
    guess at the network's, and with "all" it sees features made in training mode.

    Raises:
        ValueError, TypeError: the cut or the method does not fit; the message says what would.
        FloatingPointError: a predicted loss is NaN or infinite.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[..., Tensor],
        *,
        cut: str,
        selector: Selector,
        batch_norm: Literal["kept", "all"] = "kept",
        head: nn.Module | None = None,
        head_lr: float = 0.01,
        epochs: float | None = None,
        seed: int = 0,
    ) -> None:
        validation.one_of("cut", cut, [name for name, _ in model.named_modules() if name])
        validation.one_of("batch_norm", batch_norm, ["kept", "all"])
        if "score" not in selector.needs or "loss" in selector.needs:
            raise ValueError(
                f"{type(selector).__name__} chooses before an epoch; at a cut a batch is judged as it comes. Use "
                "Adonis, SB or ComposerSB here, and wrap() for others."
            )
        self.model, self.selector, self.batch_norm = model, selector, batch_norm
        self._cut, self._name, self._loss = model.get_submodule(cut), cut, per_sample_loss(loss_fn)
        self.head_lr = validation.positive("head_lr", head_lr)
        self.kept = torch.empty(0, dtype=torch.int64)
        self.predicted: Tensor | None = None
        self._epoch, self._number, self._seen, self._used = -1, 0, 0, 0
        self._head: nn.Module | None = None  # the default one waits for the first outputs
        if head is not None:
            self._set_head(head)
        # Of size 0, so that a method that looks up a sample's facts or class fails instead of finding another's.
        epochs = None if epochs is None else validation.positive("epochs", epochs)
        seed = validation.integer("seed", seed, least=0)
        selector.setup(Run(size=0, batch_size=1, epochs=epochs, seed=seed, ledger=Ledger(0)))

    def __call__(self, x: Any, y: Any, *, epoch: int) -> Tensor:
        """The mean loss of the kept samples of batch (``x``, ``y``) in ``epoch`` (from 0), to call ``backward`` on."""
        self._number = self._number + 1 if epoch == self._epoch else 0
        self._epoch = epoch
        reached: list[Tensor] = []  # the cut's output (B, ...)
        outputs: Any = None

        def narrow(features: Tensor) -> Tensor:
            reached.append(self._check(features, y, reached))
            self._choose(reached[0], y)
            return features if len(self.kept) == len(features) else features[self.kept.to(features.device)]

        def stop(features: Tensor) -> None:
            reached.append(self._check(features, y, reached))
            raise _Reached

        if self.batch_norm == "kept" and self._judges():
            place = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
            with undisturbed(self.model, place), self._at_cut(stop), contextlib.suppress(_Reached):
                self.model(x)
            if reached:
                self._choose(reached[0], y)
                outputs = self.model(nested_batch.take(x, self.kept))
        else:
            with self._at_cut(narrow):
                outputs = self.model(x)
        if not reached:
            raise ValueError(
                f"The forward pass did not come by {self._name!r}. Name a module that it calls; a model compiled as a "
                "whole does not call its modules: compile some of them instead."
            )
        if isinstance(outputs, Tensor) and len(outputs) != len(self.kept):
            raise ValueError(
                f"{len(self.kept)} samples were kept at {self._name!r}, and the model gave {len(outputs)} outputs: "
                "something leads around the cut. Name another module."
            )
        losses = self._loss(outputs, nested_batch.take(y, self.kept))
        losses = check_losses(losses, len(self.kept), "The loss of the kept samples")
        if self._head is None:
            self._set_head(self._linear(reached[0], outputs))
            self._train_head(self._predict(reached[0], y))
        self._seen += len(reached[0])
        self._used += len(self.kept)
        return losses.mean()

    def _judges(self) -> bool:
        """Whether the method is asked about the running batch."""
        asked = self.selector.loss_age(self._epoch) is not None and self.selector.judges(self._epoch, self._number)
        return asked and self._head is not None

    def _choose(self, features: Tensor, y: Any) -> None:
        """Set ``kept``, by the head's losses, and train the head."""
        self.kept = torch.arange(len(features))
        if self._head is None:
            return
        with_grad = self._predict(features, y)
        self.predicted = losses = with_grad.detach().float().cpu()
        if not losses.isfinite().all():
            raise FloatingPointError(
                f"The head's losses at positions {(~losses.isfinite()).nonzero().flatten().tolist()[:10]} of the batch "
                f"are NaN or infinite. Look at the output of {self._name!r}, the targets and head_lr={self.head_lr}."
            )
        self._train_head(with_grad)
        if self._judges():
            kept = torch.zeros(len(losses), dtype=torch.bool)
            kept[self.selector.select(Batch(self._epoch, self._number, self.kept, losses))] = True
            missing = min(LEAST, len(losses)) - int(kept.sum())
            if missing > 0:
                kept[losses.masked_fill(kept, -torch.inf).topk(missing).indices] = True
            self.kept = kept.nonzero().flatten()
        elif self.selector.loss_age(self._epoch) is not None:
            self.selector.pass_over(self._epoch, self._number, self.kept)

    def _predict(self, features: Tensor, y: Any) -> Tensor:
        """The head's losses (B,), with gradient for the head alone."""
        assert self._head is not None
        dtype = next((parameter.dtype for parameter in self._head.parameters()), torch.float32)
        with torch.enable_grad(), torch.autocast(features.device.type, enabled=False):
            losses = self._loss(self._head(features.to(dtype)), y)
        return check_losses(losses, len(features), "The loss of the head's outputs")

    def _train_head(self, losses: Tensor) -> None:
        assert self._head is not None
        parameters = list(self._head.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(losses.mean(), parameters), strict=True):
            parameter.grad = gradient  # autograd.grad, so that a loss with parameters gets none from here
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _set_head(self, head: nn.Module) -> None:
        self._head = head
        self._optimizer = torch.optim.Adam(head.parameters(), lr=self.head_lr)

    def _linear(self, features: Tensor, outputs: Any) -> nn.Module:
        """The default head for features (B, ...) and outputs (B, C)."""
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or not 2 <= features.ndim <= 4:
            shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise TypeError(
                f"The default head turns (B, D), (B, tokens, D) or (B, D, H, W) into class scores (B, C); here are "
                f"{tuple(features.shape)} and {shape}. Pass head=, a module from the first to what loss_fn takes."
            )
        return _head(_Average()(features).shape[1], outputs.shape[1]).to(features.device)

    def _check(self, features: Any, y: Any, reached: list[Tensor]) -> Tensor:
        """``features``, detached; an error when they are not those of the batch."""
        if reached:
            raise ValueError(f"{self._name!r} runs more than once in a forward pass. Name another module to cut at.")
        size = nested_batch.size(y)
        if not isinstance(features, Tensor) or features.ndim == 0 or (size is not None and len(features) != size):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise TypeError(f"{self._name!r} gives {shape}; a cut needs a tensor of {size} rows, one a sample.")
        return features.detach()

    @contextlib.contextmanager
    def _at_cut(self, action: Callable[[Any], Tensor | None]) -> Iterator[None]:
        """Within, ``action`` sees the cut's output; what it returns takes its place."""
        handle = self._cut.register_forward_hook(lambda module, inputs, output: action(output))
        try:
            yield
        finally:
            handle.remove()

    def report(self) -> dict[str, float]:
        """Samples seen and used so far, and the method's own counts."""
        return {"samples_seen": self._seen, "samples_used": self._used} | self.selector.report()

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: the head, its optimizer, the method, the counts."""
        return {
            "head": None if self._head is None else self._head.state_dict(),
            "optimizer": None if self._head is None else self._optimizer.state_dict(),
            "selector": self.selector.state_dict(),
            "counts": [self._epoch, self._number, self._seen, self._used],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``, with a PartialForward made in the same way."""
        state = copy.deepcopy(state)
        if state["head"] is not None:
            if self._head is None:
                weight = state["head"]["2.weight"]
                self._set_head(_head(weight.shape[1], weight.shape[0]).to(weight.device))
            assert self._head is not None
            self._head.load_state_dict(state["head"])
            self._optimizer.load_state_dict(state["optimizer"])
        self.selector.load_state_dict(state["selector"])
        self._epoch, self._number, self._seen, self._used = state["counts"]


class _Reached(Exception):
    """No error: ends a forward pass at the cut."""


class _Average(nn.Module):
    """(B, 16 D) of features (B, D, H, W): where in the image matters. (B, D) of (B, tokens, D) or (B, D)."""

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim == 4:
            return F.adaptive_avg_pool2d(features, 4).flatten(1)
        return features.mean(1) if features.ndim == 3 else features


def _head(width: int, classes: int) -> nn.Module:
    linear = nn.utils.skip_init(nn.Linear, width, classes, dtype=torch.float32)  # which draws no random numbers
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(_Average(), nn.LayerNorm(width, elementwise_affine=False), linear)
