"""Label guard: probes of known wrong labels tell how many of the others are wrong; those are mostly left out.

N = size of the data set, M = samples of a pool, k = probes, B = samples of a step, C = classes.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.methods.class_floor import draw_by_class
from leantrain.rng import generator
from leantrain.utils.validation import CountOrZero, ShareBelowOne, ShareOrZero

WATCH = 0.12  # share of the training from which on scores count: before, the network knows nothing
LOWEST, HIGHEST = 0.15, 0.9  # of the probes' distribution: less is too few probes, more lies among the right labels
BINS = 12  # quantiles of the probes: about 8 probes in each of the smallest set that is judged by default
SUREST = 0.98  # the largest probability of a wrong label that is believed
POWER = 2  # a sample takes part with (1 - P) ** POWER
FRESH, PROBING, ACTING, OVER, OFF = "fresh", "probing", "acting", "over", "off"  # stages, in this order


@dataclass(kw_only=True, eq=False)
class LabelGuard(Selector):
    """Leaves samples out by how probably their label is wrong, if enough labels are.

    A few random samples, the probes, carry a wrong label in the loss until they are released. How the scores of the
    others compare to theirs says how many labels are wrong and how probably each is. Where that are few, or there is
    too little to judge by, the probes get their labels back and nothing is left out, for good.

    Args:
        decide: share of the training after which it is decided; from then on anew in each epoch.
        release: share of the training after which the probes have their own labels and probabilities stay.
        least_wrong: share of wrong labels below which nothing is left out.
        least_visits: presentations of samples that must precede the decision; with fewer nothing is left out.

    Cost: no extra pass; up to 100 or 1 % of the samples, at most 4 %, are of no use until ``release``. Needs the length
    of the training, class labels, and the logits of each step: ``reduce(losses, logits=, targets=)``.

    Source: none, this is ours; the probes follow Pleiss et al., "Identifying Mislabeled Data using the Area Under the
    Margin Ranking", NeurIPS 2020, arXiv 2001.10528.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"loss", "logits", "targets", "epochs"})
    learnt = ("stage", "wrong", "doubt", "classes", "shares", "found", "said", "acted", "left_out")

    decide: ShareOrZero = 0.4
    release: ShareOrZero = 0.7
    least_wrong: ShareBelowOne = 0.1
    least_visits: CountOrZero = 15_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decide >= self.release:
            raise ValueError(f"decide={self.decide:g} must be below release={self.release:g}: it acts in between.")

    def setup(self, run: Run) -> None:
        super().setup(run)
        run.ledger.keep_facts()  # the scores
        self._targets = run.need_targets("LabelGuard")
        self._stage = FRESH
        self._wrong = torch.full((run.size,), -1, dtype=torch.int64)  # the labels that probes carry
        self._doubt = torch.zeros(run.size, dtype=torch.float32)  # P
        self._classes = torch.empty(0, dtype=torch.int64)  # (C,) of the running epoch's plan
        self._shares = torch.empty(0, dtype=torch.float32)  # (C,) of its samples
        self._found: float | None = None  # pi, the share of wrong labels
        self._said = ""  # what was decided
        self._acted = self._left_out = 0  # epochs, and samples in all of them
        self._compared = False  # the labels that the loop tells, with the run's

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        epochs = self.run.need_epochs("LabelGuard")
        if self._stage == FRESH:
            self._draw_probes(pool)
        if self._stage in (PROBING, ACTING):
            if reached(epoch, self.release, epochs):
                self._release(OVER if self._stage == ACTING else OFF)
            elif reached(epoch, self.decide, epochs):
                self._judge(epoch, pool)
        kept = pool
        if self._stage in (ACTING, OVER):
            kept = pool[self._draw(epoch, pool)]
            self._acted, self._left_out = self._acted + 1, self._left_out + len(pool) - len(kept)
        labels = self._targets[kept]
        self._classes, counts = labels[labels >= 0].unique(return_counts=True)
        self._shares = counts.float() / float(counts.sum())
        return Plan(kept)

    def _draw_probes(self, pool: Tensor) -> None:
        """Step 1, once. Without two classes, or enough samples for a probe, there are none."""
        pool = pool.unique()
        pool = pool[self._targets[pool] >= 0]  # others are to be ignored
        probes, wrong = draw_probes(self._targets[pool], generator(self.run.seed, 0, "label guard's probes"))
        self._stage = PROBING
        if len(probes) == 0:
            self._stage, self._said = (
                OFF,
                "LabelGuard cannot act: there are too few labelled samples, or one class only.",
            )
        self._wrong = self._wrong.index_copy(0, pool[probes], wrong)

    def _release(self, stage: str) -> None:
        """The probes have their own labels from now on, and take part in every epoch."""
        self._stage = stage
        self._doubt = self._doubt.where(self._wrong < 0, 0.0)
        self._wrong = torch.full_like(self._wrong, -1)

    def _judge(self, epoch: int, pool: Tensor) -> None:
        """Steps 3 to 5, on what the pool's samples scored so far."""
        ledger = self.run.ledger
        assert ledger.fact_sum is not None
        assert ledger.fact_count is not None
        pool = pool.unique()
        pool = pool[ledger.fact_count[pool] > 0]
        scores = ledger.fact_sum[pool] / ledger.fact_count[pool]
        probe = self._wrong[pool] >= 0
        share = share_of_wrong(scores[probe], scores[~probe])
        if self._stage == PROBING:
            self._found, visits = share, int(ledger.trained.sum())
            acts, self._said = self._decided(epoch, visits)
            if not acts:
                return self._release(OFF)
            self._stage = ACTING
        if share is not None:
            self._found = share
            doubt = doubts(scores, scores[probe], scores[~probe], share).float()
            self._doubt = torch.zeros_like(self._doubt).index_copy(0, pool, doubt)

    def _decided(self, epoch: int, visits: int) -> tuple[bool, str]:
        """Step 4: whether it acts from ``epoch`` on, after ``visits`` presentations of samples; and that in words."""
        if self._found is None:
            return False, "LabelGuard had no scores of samples to decide by, and leaves all in."
        seen = f"LabelGuard: about {self._found:.0%} of the labels look wrong"
        if self._found < self.least_wrong:
            return False, f"{seen}, less than {self.least_wrong:.0%}: all samples stay in."
        if visits < self.least_visits:
            few = f"after {visits:,} presentations, too few to believe it (least_visits={self.least_visits:,})"
            return False, f"{seen} {few}: all samples stay in."
        return True, f"{seen}. From epoch {epoch + 1} on those that do are mostly left out."

    def _draw(self, epoch: int, pool: Tensor) -> Tensor:
        """(M,) bool: who takes part, of each class somebody. Probes that carry wrong labels are drawn like these."""
        rng = generator(self.run.seed, epoch, "label guard")
        chance = (1 - self._doubt[pool]) ** POWER
        kept = torch.rand(len(pool), generator=rng, dtype=torch.float32) < chance
        classes, which = self._targets[pool].unique(return_inverse=True)
        lost = (torch.bincount(which[kept], minlength=len(classes)) == 0).long()
        rest = (~kept).nonzero().flatten()
        kept[rest[draw_by_class(which[rest], lost, rng)]] = True
        return kept

    def observe(
        self, epoch: int, indices: Tensor, losses: Tensor, logits: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        unknown = torch.full_like(losses, torch.nan, requires_grad=False)
        if self._stage not in (PROBING, ACTING):
            return losses, unknown
        own, wrong = self._targets[indices], self._wrong[indices]
        self._compare(indices, own, targets)
        labels, device = wrong.where(wrong >= 0, own), logits.device
        known = (labels >= 0) & (labels < logits.shape[1])  # a class without logit; a label to ignore
        labels, known = labels.where(known, 0).to(device), known.to(device) & (targets == own.to(targets.device))
        if len(rows := (wrong >= 0).nonzero().flatten()):
            at = rows.to(device)
            losses = losses.index_copy(0, at, relabelled(losses[at], logits[at], labels[at], known[at]))
        if not reached(epoch, WATCH, self.run.need_epochs("LabelGuard")):
            return losses, unknown
        return losses, fits(logits.detach(), labels, self._classes, self._shares).where(known, torch.nan)

    def _compare(self, indices: Tensor, own: Tensor, targets: Tensor) -> None:
        """ValueError for labels other than the run's, from which the probes' are drawn; in a process's first step."""
        if self._compared:
            return
        self._compared, told = True, targets.cpu()
        if bool((other := (told != own) & (told >= 0)).any()):
            raise ValueError(
                f"LabelGuard was told other labels in reduce(targets=) than the data set has: of the samples "
                f"{indices[other].tolist()[:10]} {told[other].tolist()[:10]} and {own[other].tolist()[:10]}. Give the "
                "same ones to both: wrap(loader, ..., targets=labels)."
            )

    def report(self) -> dict[str, float]:
        found = {} if self._found is None else {"wrong_labels_found": self._found}
        acts = {"label_guard_acts": float(self._acted > 0)}
        return found | acts | {"left_out_by_label_guard": self._left_out / max(self._acted, 1)}

    def notes(self) -> list[str]:
        return [self._said] if self._said else []


def reached(epoch: int, share: float, epochs: float) -> bool:
    """Whether ``epoch`` starts after ``share`` of the training, without the surprise of 0.07 * 100 > 7."""
    return epoch >= round(share * epochs, 6)


def draw_probes(labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Step 1: positions (k,) in ``labels`` (M,), and the wrong labels (k,) that they get.

    A wrong label is that of a random sample of another class. One sample of each class is no probe, so that none is
    without a right label.
    """
    classes, which, counts = labels.unique(return_inverse=True, return_counts=True)
    order = torch.randperm(len(labels), generator=rng)
    by_class = which[order].argsort(stable=True)
    end = counts.cumsum(0)
    start = end - counts
    spared = torch.zeros(len(labels), dtype=torch.bool)
    spared[by_class[end - 1]] = True  # the last in the order: were it the first, rare classes would have fewer probes
    count = int(min(max(100, 0.01 * len(labels)), 0.04 * len(labels))) if len(classes) > 1 else 0
    probes = order[~spared][:count].sort().values
    mine = which[probes]
    drawn = torch.rand(len(probes), generator=rng, dtype=torch.float64) * (len(labels) - counts[mine])
    place = drawn.long()  # among the samples of other classes, class by class
    place += counts[mine] * (place >= start[mine])
    return probes, classes[which.sort().values[place]]


def fits(logits: Tensor, labels: Tensor, classes: Tensor, shares: Tensor) -> Tensor:
    """Step 2: log softmax(z - log p)_y of ``logits`` z (B, C) and ``labels`` y (B,): how well a label fits.

    ``shares`` p are those of ``classes``; another class is none that a sample could be of.
    """
    known = classes < logits.shape[1]
    log_share = torch.full((logits.shape[1],), torch.inf, dtype=torch.float32)
    log_share[classes[known]] = shares[known].log()
    adjusted = logits.float() - log_share.to(logits.device)
    return adjusted.log_softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)


def relabelled(losses: Tensor, logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """(k,) cross-entropy of ``logits`` (k, C) with ``labels`` (k,); ``losses`` (k,) stay where the label cannot be had.

    That is where ``known`` (k,) is False, or the model rules the label out, by a logit that is not finite.
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    can = known & exact.gather(1, labels.unsqueeze(1)).squeeze(1).isfinite()
    return F.cross_entropy(exact, labels, reduction="none").to(losses.dtype).where(can, losses)


def share_of_wrong(probes: Tensor, rest: Tensor) -> float | None:
    """Step 3: pi, the least F_rest(t) / F_probe(t) of scores ``probes`` (k,) and ``rest`` (M,); None without a t.

    Wrong labels score as probes do, so pi * F_probe(t) of the rest are wrong ones below t. The others below t are
    right ones that are hard, of which the ratio is nearly free where they are fewest.
    """
    if len(probes) == 0 or len(rest) == 0:
        return None
    below = distribution(probes, probes)  # where it steps up, the ratio is least
    within = (below >= LOWEST) & (below <= HIGHEST)
    ratio = distribution(rest, probes[within]) / below[within]
    return min(1.0, float(ratio.min())) if len(ratio) else None


def distribution(values: Tensor, at: Tensor) -> Tensor:
    """F(t), the share of ``values`` (M,) that are at most t, for each t of ``at``."""
    return torch.searchsorted(values.sort().values, at, right=True).double() / len(values)


def doubts(scores: Tensor, probes: Tensor, rest: Tensor, share: float) -> Tensor:
    """Step 5: P(wrong) of each of ``scores`` (M,), with 1 / BINS of the ``probes`` (k,) in each bin.

    Of the rest, ``share`` / BINS are wrong in each bin, out of those that are there. A better score is no more in
    doubt than a worse one.
    """
    edges = torch.quantile(probes, torch.arange(1, BINS, dtype=probes.dtype) / BINS)
    there = torch.bincount(torch.bucketize(rest, edges), minlength=BINS).double() / len(rest)
    doubt = (share / BINS / there).nan_to_num(0.0).clamp(max=SUREST).cummin(0).values  # 0 of none: no doubt
    return doubt[torch.bucketize(scores, edges)]
