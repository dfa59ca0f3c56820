"""What the commands do once their options are read, and what they print."""

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from leantrain.cli.options import checked

if TYPE_CHECKING:
    from leantrain.compare import CompareConfig

console = Console()
# What a data set is read with.
READING = ("limit", "image_size", "test_limit", "condition", "condition_seed", "unreadable")
RUN, MODEL = "run.json", "model.safetensors"


def compare(config: "CompareConfig", out: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    """One comparison into ``out``."""
    from leantrain.cli.tables import Progress, table
    from leantrain.compare import compare as run
    from leantrain.train.device_cache import foreseen

    data = read_data(config)
    under = "" if config.condition == "clean" else f" under {config.condition}"
    console.print(
        f"[bold]{escape(data.name)}[/]{under}: {len(data.targets):,} training and {len(data.test_targets):,} test "
        f"samples, {len(data.classes)} classes; model {config.model}, {config.epochs} epochs, seeds "
        f"{', '.join(map(str, config.seeds))}; training images {foreseen(config, data.train)}. Each method stands "
        "beside full training cut to its time.",
        highlight=False,
    )
    with Progress(console, config) as progress:
        results = run(config, data, out, resume=resume, overwrite=overwrite, on_epoch=progress.update)
    console.print(table(results.content(), console.width))
    _report(out, data)
    console.print(f"Results: {out / 'results.json'}", highlight=False, soft_wrap=True)


def _report(out: Path, data: Any) -> None:
    """Draw the report, and say in the terminal what its headline says."""
    from leantrain.report import write
    from leantrain.report.results import load
    from leantrain.report.verdict import sentences

    path = write(out, pictures(data))
    for sentence in filter(None, sentences(load(out))):
        console.print(sentence, markup=False, highlight=False)
    console.print(f"Report:  {path}", highlight=False, soft_wrap=True)


def study(
    name: str, given: dict[str, Any], out: Path, *, only: list[str] | None, scale: str | None, resume: bool
) -> None:
    """The experiment called ``name``, with the user's ``given`` settings, into ``out``."""
    from leantrain.cli.tables import Progress, matrix, tables
    from leantrain.compare import CompareConfig, presets
    from leantrain.compare.presets.runner import configs, run_study
    from leantrain.compare.presets.scaling import scaled

    preset = presets.load(name)
    if "methods" in given:
        raise ValueError(f"--preset {name} chooses the methods itself; leave --methods out.")
    note = f"Preset {name}."
    if scale is not None:
        given, said = scaled(preset, scale, given)
        note = f"{note} {said}"
    given |= {"note": " ".join(filter(None, [given.get("note"), note]))}
    comparisons = checked(lambda **changes: configs(preset, changes, out, only), given, CompareConfig)
    hours = "" if preset.hours is None else f" On one GPU and unscaled about {preset.hours:g} hours."
    for text in (preset.source, preset.protocol + hours, note):
        console.print(text, markup=False, highlight=False)
    with contextlib.ExitStack() as bars:

        def announce(what: str, config: Any) -> Any:
            bars.close()
            console.print(f"[bold]{escape(what)}[/]", highlight=False)
            return bars.enter_context(Progress(console, config)).update if config else None

        found = run_study(preset, given, read_data, out, only=only, resume=resume, announce=announce)
    for table in tables(found):
        console.print(table)
    if found["matrix"]:
        console.print(matrix(found, console.width))
    for comparison, config in comparisons.items():
        console.print(f"[bold]{escape(comparison)}[/]", highlight=False)
        _report(out / comparison, read_data(config))
    console.print(f"Results: {out / 'study.json'}", highlight=False, soft_wrap=True)


def inspect(config: "CompareConfig", seconds: float, check_labels: bool) -> None:
    """What the data set holds, and what is expected to pay; what takes a while is said before."""
    from torch.utils.data import DataLoader

    from leantrain.cli.tables import advice, facts
    from leantrain.compare.estimate import estimate as predict
    from leantrain.estimation.forecast import duration
    from leantrain.estimation.inspection import inspect as look_at
    from leantrain.methods.label_guard import LabelGuard
    from leantrain.train.trainer import train as run

    data = read_data(config)
    estimate = guard = None
    if seconds:
        console.print(
            f"Trying {escape(config.model)} for about {seconds:g} s, for what binds it; --seconds 0 leaves that out.",
            highlight=False,
        )
        estimate = predict(config.model_copy(update={"methods": ("full",)}), data, seconds)
    if check_labels:
        lasts = "" if estimate is None else f", about {duration(estimate.forecasts[0].seconds)}"
        console.print(
            f"Training {escape(config.model)} for {config.epochs} epochs to judge the labels{lasts}.", highlight=False
        )
        enough = math.ceil(LabelGuard.least_visits / (LabelGuard.decide * len(data.targets)))
        if config.epochs < enough:
            console.print(f"That many are too few to believe what it finds; --epochs {enough:,} will do.")
        guard = run(config, data, "label-guard", config.seeds[0], evaluate=False).facts.events
    loader = DataLoader(data.train, batch_size=config.batch_size)
    found = look_at(loader, targets=data.targets, goal=config.goal, guard=guard, estimate=estimate)
    found = dataclasses.replace(found, sides=((data.image_size, data.image_size),))  # what the model gets of it
    console.print(f"[bold]{escape(data.name)}[/]: {found.size:,} training samples", highlight=False)
    console.print(facts(found))
    console.print(advice(found))


def train(config: Any, method: str, seed: int, out: Path, record: Path | None, resume: bool, first: bool) -> None:
    """One training into ``out``; ``first``: on rank 0, which alone tells and writes."""
    from rich.progress import track

    from leantrain.checkpoint.manager import Checkpoints
    from leantrain.compare.environment import describe
    from leantrain.data import require_extra
    from leantrain.train.device_cache import foreseen
    from leantrain.train.trainer import train as run
    from leantrain.utils.atomic_write import write_json, write_whole
    from leantrain.utils.memory import describe as describe_parts

    checkpoints = Checkpoints(out / "checkpoints", config.checkpoint_seconds)
    ours = {"method": method, "seed": seed, "config": config.model_dump(mode="json")}
    if _finished(out, ours, checkpoints.folder.exists(), resume):
        console.print(f"{out} holds this training already, finished.", highlight=False, soft_wrap=True)
        return
    data = read_data(config)
    console.print(f"Training images {foreseen(config, data.train)}.", highlight=False)
    epochs = iter(track(range(config.epochs), description=f"{method} on {data.name}", console=console))
    next(epochs)

    def tell(row: dict[str, Any]) -> None:
        tested = "not tested    " if row["accuracy"] is None else f"accuracy {100 * row['accuracy']:5.2f} %"
        console.print(
            f"epoch {row['epoch'] + 1:3d}  {tested}  trained on {row['trained']:,} samples  "
            f"{row['train_seconds']:.1f} s",
            highlight=False,
        )
        next(epochs, None)

    def tell_memory(parts: list[Any]) -> None:
        if parts:
            console.print(f"Memory for the selection: {describe_parts(parts)}.", highlight=False)

    def tell_note(note: str) -> None:
        console.print(note, markup=False, highlight=False)

    told = tell if first else None  # only rank 0 knows the accuracy
    result = run(
        config,
        data,
        method,
        seed,
        record=record,
        checkpoints=checkpoints,
        before_start=tell_memory,
        after_epoch=told,
        note=tell_note if first else None,
    )
    if not first:
        return
    facts = ours | result.facts.model_dump()
    write_json(out / RUN, facts | {"environment": describe(config.device), "epochs_done": result.epochs})
    save = require_extra("safetensors.torch", "train").save_model
    write_whole(out / MODEL, lambda place: save(result.model, str(place)))
    checkpoints.finish()
    console.print(f"Accuracy {100 * (result.facts.accuracy or 0):.2f} %. Written to {out}.", highlight=False)


def _finished(out: Path, ours: dict[str, Any], interrupted: bool, resume: bool) -> bool:
    """Whether ``out`` holds this very run, finished. ValueError where the run would overwrite what is there."""
    from leantrain.compare.store import read_json
    from leantrain.train.config import REMEDIES, TrainConfig, with_defaults

    there = [name for name in (RUN, MODEL) if (out / name).exists()]
    if not resume and interrupted:
        raise ValueError(f"{out} holds an interrupted training. Pass --resume to go on with it, or another --out.")
    if not resume and there:
        raise ValueError(f"{out} holds a finished training ({', '.join(there)}). Give another --out.")
    if not there:
        return False
    found = read_json(out / RUN) if RUN in there else {}
    found = with_defaults(TrainConfig, found, ours) if isinstance(found, dict) else {}
    for name, mine in ours.items():
        other = found.get(name)
        if name == "config" and isinstance(other, dict):
            other, mine = ({k: v for k, v in values.items() if k not in REMEDIES} for values in (other, mine))
        if other != mine:
            raise ValueError(
                f"{out} holds {', '.join(there)} of another run: its {name} is {other!r}. Give another --out."
            )
    return not interrupted and MODEL in there


def report(folder: Path, data: str | None, show_class: str | None) -> None:
    """The report of ``folder`` anew, with pictures of ``data`` if that is what the results were made on.

    Results may come from anyone, and name any folder: only what the user names is opened.
    """
    from leantrain.compare.store import read_json
    from leantrain.report import write
    from leantrain.report.results import load
    from leantrain.train.config import TrainConfig

    settings, images = load(folder).config, None
    if data is None:
        said = f"No pictures. For those say where the data set is: --data {settings.get('data', 'parquet:DIR')}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    else:
        known = {name: settings[name] for name in READING if name in settings}
        found = read_data(checked(TrainConfig, known | {"data": data}, TrainConfig))
        described = folder / "config.json"
        if described.exists() and read_json(described).get("data") != found.fingerprint:
            raise ValueError(
                f"--data {data} is not what the results in {folder} were made on. Leave it out, or name that."
            )
        images = pictures(found)
    console.print(f"Report: {write(folder, images, show_class)}", soft_wrap=True)


def read_data(config: Any) -> Any:
    """The data set that a configuration, or the settings in a result file, names; under its condition."""
    from leantrain.data import load

    settings = dict(config)
    with console.status(f"Reading {escape(str(settings['data']))} ..."):
        return load(settings["data"], **{name: settings[name] for name in READING if settings.get(name) is not None})


def pictures(data: Any) -> Any:
    """What gives the report the picture of a training sample."""
    return lambda index: data.train[index][0].permute(1, 2, 0).squeeze(-1).numpy()
