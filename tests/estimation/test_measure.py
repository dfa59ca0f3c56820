"""``leantrain.estimate``: counts against real trainings, times against plain sums, and nothing of the user's moved."""

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import leantrain
from leantrain import IDS, RS2, SB, ClassCap, Distinct, Full, InfoBatch, InputSize, Kakurenbo, StaleSB
from leantrain.estimation import forecast
from leantrain.estimation.dry_run import DryRun, Epoch, Priced, Stage
from leantrain.estimation.rehearsal import Costs, Rehearsal, samples_and_epochs
from toys import METHODS

SIZE, BATCH, EPOCHS = 300, 16, 6


class Noisy(TensorDataset):
    """Draws from every global generator when it is read, as augmentation does."""

    def __getitem__(self, index):
        torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
        return super().__getitem__(index)


def images(size=SIZE, kind=TensorDataset):
    rng = torch.Generator().manual_seed(1)
    return kind(torch.randn(size, 5, generator=rng), torch.arange(size) % 4)


def network():
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 4))


def loader(size=SIZE, kind=TensorDataset, **options):
    return DataLoader(images(size, kind), **({"batch_size": BATCH, "shuffle": True} | options))


def stage(size=SIZE, batch_size=BATCH, epochs=EPOCHS, most=10**9, rehearsal=None, targets=None, **options):
    options = {"goal": "balanced"} | options
    rng = torch.Generator().manual_seed(2)
    rehearsal = rehearsal or Rehearsal(torch.rand(3, 40, generator=rng))
    targets = torch.arange(size) % 4 if targets is None else targets
    facts = {
        "drop_last": False,
        "seed": 0,
        "costs": Costs(fetch=0.2, score=0.3, forward=0.5, backward=1.2, optimizer=0.1),
    } | options
    return Stage(
        size=size, batch_size=batch_size, epochs=epochs, targets=targets, rehearsal=rehearsal, most=most, **facts
    )


def real_counts(selector, size, batch_size, epochs, drop_last=False):
    """What a training of a tiny model shows: of each epoch samples trained, scored, loaded."""
    model, data = nn.Linear(5, 4), images(size)
    plain = DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=drop_last)
    score = leantrain.scorer(model, F.cross_entropy)
    wrapped = leantrain.wrap(plain, selector, score=score, epochs=epochs, targets=data.tensors[1])
    found, before = [], (0, 0, 0)
    for _ in range(epochs):
        for x, y in wrapped:
            logits = model(x)
            wrapped.reduce(F.cross_entropy(logits, y, reduction="none"), logits, y)
            _ = wrapped.lr_factor
        counts = wrapped.stats.trained, wrapped.stats.scored, wrapped.stats.loaded
        found.append(tuple(now - then for now, then in zip(counts, before, strict=True)))
        before = counts
    return found


FIXED = {  # what they use follows from the settings, whatever the losses
    "full", "rpc", "rpd", "rs2", "ids", "random-pb", "orderdp", "iswr", "ssp", "forget", "el2n", "grand", "grad-match",
    "grad-match-pb", "rho-loss",
}  # fmt: skip


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("name", sorted(FIXED))
def test_the_counts_of_fixed_shares_are_those_of_a_real_training(name, drop_last):
    size, batch_size = 40, 6  # what the toys are made for; the last batch is short
    made = stage(size, batch_size, drop_last=drop_last, targets=torch.arange(size) % 4).run(METHODS[name]())
    counts = [(epoch.trained, epoch.scored, epoch.loaded) for epoch in made.epochs]
    assert counts == real_counts(METHODS[name](), size, batch_size, EPOCHS, drop_last)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_goes_through_a_dry_run(name):
    selector = METHODS[name]()
    before = dict(vars(selector))
    rehearsal = Rehearsal(torch.rand(3, 40), torch.rand(3, 40) < 0.5, torch.rand(3, 40) / 2 + 0.3)
    made = stage(40, 4, rehearsal=rehearsal).run(selector)
    assert len(made.epochs) == EPOCHS
    assert 0 < sum(epoch.trained for epoch in made.epochs) <= 1.3 * 40 * EPOCHS
    assert vars(selector) == before  # and it was not set up


def test_repeats_are_looked_for_in_the_data_themselves():
    contents = torch.arange(SIZE).float() % 100
    data, targets = TensorDataset(contents), (torch.arange(SIZE) % 100) % 4
    found = stage(dataset=data, targets=targets).run(Distinct())
    assert [epoch.trained for epoch in found.epochs] == [100] * EPOCHS
    given = stage(targets=targets).run(Distinct(groups=contents.long()))
    assert [epoch.trained for epoch in given.epochs] == [100] * EPOCHS
    some = stage(dataset=data, targets=targets, most=64 * EPOCHS, batch_size=2)
    assert some.simulated == 128
    for selector in (Distinct(), Distinct(groups=contents.long())):
        trained = some.run(selector).epochs[0].trained
        assert 100 / SIZE < trained / SIZE < 1  # fewer repeats are among fewer samples


def test_what_the_goal_changes_is_estimated():
    targets = torch.arange(SIZE).clamp_max(3)
    for goal, trained in (("balanced", 4), ("as-trained", SIZE)):
        found = stage(targets=targets, goal=goal, batch_size=4).run(ClassCap())
        assert [epoch.trained for epoch in found.epochs] == [trained] * EPOCHS
    options = {"selectors": {"class-cap": ClassCap()}, "epochs": 3, "seconds": 0.5, "targets": torch.arange(SIZE) % 4}
    with pytest.raises(ValueError, match="ClassCap changes how often the classes come"):
        leantrain.estimate(loader(), network(), F.cross_entropy, **options)
    assert leantrain.estimate(loader(), network(), F.cross_entropy, **options, goal="balanced").forecasts


def test_losses_decide_what_infobatch_prunes():
    """With losses that stay, brute force: half of those below the mean go, until 0.875 of the training."""
    losses = torch.rand(40, generator=torch.Generator().manual_seed(3)) ** 4
    below = int((losses < losses.mean()).sum())
    made = stage(40, 4, epochs=8, rehearsal=Rehearsal(losses.repeat(2, 1))).run(InfoBatch(prune_ratio=0.5))
    pruned = 40 - below + -(-below // 2)
    assert below > 22
    assert [epoch.trained for epoch in made.epochs] == [40, *[pruned] * 6, 40]


def test_what_is_known_and_sure_decides_what_kakurenbo_hides():
    """Those right and surer than 0.7 among the smallest losses: a quarter of the samples."""
    right = torch.arange(40) % 2 == 0
    sure = torch.where(torch.arange(40) % 4 < 2, 0.9, 0.1)
    facts = Rehearsal(torch.zeros(1, 40), right.repeat(1, 1), sure.repeat(1, 1))
    made = stage(40, 4, epochs=3, rehearsal=facts).run(Kakurenbo(fraction=0.99, reduce_fraction=False))
    hidden = int((right & (sure > 0.7))[:39].sum())  # floor(0.99 * 40) candidates
    assert hidden == 10
    assert [(epoch.trained, epoch.scored, epoch.loaded) for epoch in made.epochs] == [
        (40, 0, 40),
        *[(40 - hidden, hidden, 40)] * 2,
    ]


def test_a_rehearsal_is_read_at_the_same_share_of_the_training():
    facts = Rehearsal(torch.arange(4.0).unsqueeze(1).repeat(1, 10))  # epoch e shows the loss e
    for epoch, place in [(0, 0), (2, 1 / 3), (3, 2 / 3), (4, 1), (10, 3), (11, 3)]:  # epoch 4 of 12 is the second of 4
        found = facts.at(epoch, 12, 4000, seed=0).losses
        assert set(found.tolist()) == {float(place // 1), float(-(-place // 1))}, epoch
        assert float(found.mean()) == pytest.approx(place, abs=0.05)
    columns = Rehearsal(torch.arange(10.0).unsqueeze(0)).at(5, 12, 25, seed=0).losses
    assert columns.tolist() == [float(i % 10) for i in range(25)]


def test_fewer_samples_are_simulated_where_all_would_take_too_long():
    size = 2000
    small = stage(size, 4, epochs=5, most=100)
    assert small.simulated == 64 * 4
    made = small.run(RS2(keep_ratio=0.5))
    assert not made.exact
    assert [epoch.trained for epoch in made.epochs] == pytest.approx([size / 2] * 5)
    tensor = small.run(IDS(features=torch.randn(size, 3), switch_epoch=2, keep_ratio=0.5))
    assert sum(epoch.trained for epoch in tensor.epochs) < 0.52 * 5 * size
    assert stage(size, 4, epochs=5, most=5 * size).run(RS2()).exact


def test_what_would_run_a_model_is_not_called_and_is_priced():
    def refuse(*given):
        raise AssertionError("called")

    toys = stage(40, 4)
    assert toys.run(IDS(features=refuse, switch_epoch=2)).before == 40 * 0.5
    assert toys.run(leantrain.Forget(events=refuse, probe_epochs=3)).before == 40 * (0.5 + 3 * 2.0)
    assert toys.run(leantrain.RHOLoss(holdout_losses=Priced(epochs=2, price=0.1))).before == pytest.approx(164)
    made = toys.run(leantrain.GradMatch(gradients=refuse, select_every=2))
    assert [epoch.aside for epoch in made.epochs] == [20, 0, 20, 0, 20, 0]
    assert made.before == 0


COSTS = forecast.Costs(fetch=1.0, score=2.0, forward=3.0, backward=5.0, optimizer=0.5)


def runs(*epochs, before=0.0):
    full = DryRun([Epoch(10, 0, 10, 0, 0)] * len(epochs), 0.0, exact=True)
    return [("full", full), ("lean", DryRun(list(epochs), before, exact=False))]


def test_times_add_up():
    full, lean = forecast.forecast(runs(Epoch(4, 10, 10, 0.25, 1.5), Epoch(2, 0, 2, 0, 0), before=20.0), COSTS, 10, 2)
    assert full.seconds == 20 * 9.5
    assert (lean.loading, lean.forward, lean.backward) == (12, 18, 6 * 5.5)
    assert lean.selection == 10 * 2 + 0.25 + 1.5
    assert lean.seconds == 12 + 18 + 33 + 21.75
    assert lean.boost == 190 / 84.75
    assert lean.boost_with_preprocessing == pytest.approx(190 / 104.75)
    assert lean.control_epochs == pytest.approx(2 * 104.75 / 190)
    assert (lean.trained, lean.scored, lean.loaded) == (0.3, 0.5, 0.6)
    assert (full.bound, lean.bound) == ("backward", "backward")


def test_workers_read_while_the_model_works():
    costs = forecast.Costs(**{**vars(COSTS), "fetch": 5.0, "overlap": True})
    epochs = Epoch(4, 10, 10, 0.25, 1.5), Epoch(2, 0, 10, 0, 0)
    full, lean = forecast.forecast(runs(*epochs), costs, 10, 2)
    assert (full.loading, full.bound) == (0, "backward")
    assert lean.seconds == max(50, 4 * 8.5 + 21.75) + max(50, 2 * 8.5)
    starved = forecast.forecast(runs(*epochs), forecast.Costs(**{**vars(costs), "fetch": 9.0}), 10, 2)
    assert [row.bound for row in starved] == ["loading", "loading"]
    assert starved[0].seconds == 180


@pytest.mark.parametrize("part", ["fetch", "forward", "backward", "score"])
def test_the_largest_part_is_the_bound(part):
    costs = forecast.Costs(
        **({**dict.fromkeys(["fetch", "score", "forward", "backward", "optimizer"], 1.0), part: 9.0})
    )
    lean = forecast.forecast(runs(Epoch(10, 10, 10, 0, 0)), costs, 10, 1)[1]
    assert lean.bound == {"fetch": "loading", "score": "selection"}.get(part, part)


def test_an_estimate_of_a_loop(capsys):
    selectors = {"rs2": RS2(keep_ratio=0.3), "infobatch": InfoBatch(), "sb": SB(), "kakurenbo": Kakurenbo()}
    found = leantrain.estimate(loader(), network(), F.cross_entropy, selectors, epochs=4, seconds=1)
    assert [row.method for row in found.forecasts] == ["full", *selectors]
    full, rs2 = found.forecasts[:2]
    assert (full.trained, full.scored, full.loaded, full.boost) == (1, 0, 1, 1)
    assert full.exact
    assert rs2.trained == pytest.approx(0.3)
    assert rs2.exact
    assert not found.forecasts[2].exact
    for row in found.forecasts:
        assert row.loading + row.forward + row.backward + row.selection == pytest.approx(row.seconds)
        assert min(row.loading, row.forward, row.backward) > 0
    assert min(vars(found.costs).values()) >= 0
    print(found)
    shown = capsys.readouterr().out
    assert all(name in shown for name in selectors)
    assert "no gain in accuracy" in shown


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_of_the_user_s_changes(workers):
    rng = torch.Generator().manual_seed(7)
    plain = loader(kind=Noisy, generator=rng, num_workers=workers)
    model = network().eval()
    model[0].train()
    model(torch.randn(4, 5)).sum().backward()
    weights = copy.deepcopy(model.state_dict())
    gradients = [value.grad.clone() for value in model.parameters()]
    modes = [module.training for module in model.modules()]
    draws = torch.get_rng_state(), random.getstate(), np.random.get_state(), rng.get_state()  # noqa: NPY002
    selectors = {"rs2": RS2(), "stale": StaleSB()}
    settings = {name: dict(vars(selector)) for name, selector in selectors.items()}
    found = leantrain.estimate(plain, model, F.cross_entropy, selectors, epochs=2, seconds=0.2)
    assert found.costs.overlap == bool(workers)
    assert torch.equal(torch.get_rng_state(), draws[0])
    assert random.getstate() == draws[1]
    assert str(np.random.get_state()) == str(draws[2])  # noqa: NPY002
    assert torch.equal(rng.get_state(), draws[3])
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value.grad, old) for value, old in zip(model.parameters(), gradients, strict=True))
    assert [module.training for module in model.modules()] == modes
    assert {name: dict(vars(selector)) for name, selector in selectors.items()} == settings


def test_batches_of_any_kind_and_losses_without_classes():
    data = [{"x": x, "y": y.float()} for x, y in images(100)]
    plain = DataLoader(data, batch_size=BATCH)
    found = leantrain.estimate(
        plain,
        nn.Linear(5, 1),
        nn.MSELoss(),
        {"rs2": RS2(), "sb": SB()},
        epochs=2.5,
        forward=lambda model, batch: (model(batch["x"]).squeeze(1), batch["y"]),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
        seconds=0.2,
    )
    assert found.forecasts[0].trained == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"selectors": [RS2()]}, TypeError, 'dict of methods by name, such as {"infobatch": InfoBatch()}, not list'),
        ({"selectors": {}}, ValueError, "selectors is empty"),
        ({"selectors": {"rs2": RS2}}, TypeError, "selectors['rs2'] must be a Selector"),
        ({"epochs": 0}, ValueError, "epochs=0 must be a finite number above 0"),
        ({"seconds": -1}, ValueError, "seconds=-1 must be a finite number above 0"),
        ({"loader": [1, 2]}, TypeError, "takes a torch DataLoader, not list"),
        ({"loss_fn": lambda x, y: F.cross_entropy(x, y)}, ValueError, 'Pass reduction="none"'),
        ({"loader": loader(batch_size=None, shuffle=False)}, ValueError, "a DataLoader that makes batches"),
        ({"selectors": {"few": RS2(keep_ratio=0.01)}}, ValueError, "fewer than one batch of 16"),
    ],
)
def test_bad_input_is_said(changes, error, message):
    given = {"loader": loader(), "loss_fn": F.cross_entropy, "selectors": {"rs2": RS2()}, "epochs": 2} | changes
    with pytest.raises(error) as caught:
        leantrain.estimate(model=network(), **({"seconds": 0.2} | given))
    assert message in str(caught.value)
    if "few" in given["selectors"]:
        assert caught.value.__notes__ == ["Method few."]


def test_a_recording_is_left_alone(tmp_path):
    with pytest.raises(ValueError, match="Record reads or writes a folder"):
        stage().run(leantrain.Record(RS2(), tmp_path / "picks"))
    assert not (tmp_path / "picks").exists()


def test_the_size_of_the_short_training():
    assert samples_and_epochs(3000, 10_000, 16, 5) == (592, 5)  # whole batches, all epochs
    assert samples_and_epochs(3000, 10_000, 16, 100) == (288, 10)  # ten epochs are enough
    assert samples_and_epochs(4000, 300, 16, 200) == (300, 13)  # everything, as often as there is time
    assert samples_and_epochs(3000, 500, 16, 3) == (500, 3)  # the training itself
    assert samples_and_epochs(1, 10_000, 16, 5) == (32, 5)  # two batches at least
    assert samples_and_epochs(700, 300, 16, 1) == (300, 1)


def test_smaller_inputs_cost_by_their_pixels():
    run = stage(size=40, batch_size=4, epochs=6).run(InputSize())
    assert [epoch.trained for epoch in run.epochs] == [40] * 6
    sides = [side for side in (112, 160, 224) for _ in range({112: 35, 160: 16, 224: 9}[side])]  # of 60 steps
    assert sum(epoch.work for epoch in run.epochs) == pytest.approx(sum(4 * (side / 224) ** 2 for side in sides))
    lean = forecast.forecast([("full", stage(40, 4).run(Full())), ("lean", run)], COSTS, 40, 6)[1]
    assert lean.forward == pytest.approx(3.0 * sum(4 * (side / 224) ** 2 for side in sides))
    assert lean.trained == lean.loaded == 1
