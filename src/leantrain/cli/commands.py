"""What the commands do once their options are read, and what they print."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from leantrain.cli.options import checked

if TYPE_CHECKING:
    from leantrain.compare import CompareConfig

console = Console()


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
    if checkpoints.folder.exists() and not resume:
        raise ValueError(f"{out} holds an interrupted training. Pass --resume to go on with it, or another --out.")
    data = read_data(config)
    console.print(f"Training images {foreseen(config, data.train)}.", highlight=False)
    epochs = iter(track(range(config.epochs), description=f"{method} on {data.name}", console=console))
    next(epochs)

    def tell(row: dict[str, Any]) -> None:
        console.print(
            f"epoch {row['epoch'] + 1:3d}  accuracy {100 * row['accuracy']:5.2f} %  trained on {row['trained']:,} "
            f"samples  {row['train_seconds']:.1f} s",
            highlight=False,
        )
        next(epochs, None)

    def tell_memory(parts: list[Any]) -> None:
        if parts:
            console.print(f"Memory for the selection: {describe_parts(parts)}.", highlight=False)

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
    )
    if not first:
        return
    facts = {"method": method, "seed": seed, "config": config.model_dump(mode="json")} | result.facts.model_dump()
    write_json(out / "run.json", facts | {"environment": describe(config.device), "epochs_done": result.epochs})
    save = require_extra("safetensors.torch", "train").save_model
    write_whole(out / "model.safetensors", lambda place: save(result.model, str(place)))
    checkpoints.finish()
    console.print(f"Accuracy {100 * (result.facts.accuracy or 0):.2f} %. Written to {out}.", highlight=False)


def read_data(config: Any) -> Any:
    """The data set that a configuration, or the settings in a result file, names; under its condition."""
    from leantrain.data import load

    settings = dict(config)
    names = ("limit", "image_size", "test_limit", "condition", "condition_seed", "unreadable")
    with console.status(f"Reading {escape(str(settings['data']))} ..."):
        return load(settings["data"], **{name: settings[name] for name in names if settings.get(name) is not None})


def pictures(data: Any) -> Any:
    """What gives the report the picture of a training sample."""
    return lambda index: data.train[index][0].permute(1, 2, 0).squeeze(-1).numpy()
