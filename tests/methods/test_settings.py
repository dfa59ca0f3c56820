"""Settings out of range, and methods by name: one message that names the setting and says what would do."""

import math
from typing import Any

import pytest

from leantrain import IDS, RPC, RPD, RS2, SB, Adonis, InfoBatch, StaleSB
from leantrain.core.selector import Chain
from leantrain.methods import METHODS, make, parts
from toys import embedding, events, made_gradients

GIVEN: dict[str, dict[str, Any]] = {
    "ids": {"features": embedding()},
    "ssp": {"features": embedding()},
    "forget": {"events": events()},
    "el2n": {"scores": events()},
    "grand": {"scores": events()},
    "grad-match": {"gradients": made_gradients()},
    "grad-match-pb": {"gradients": made_gradients()},
    "rho-loss": {"holdout_losses": events()},
    "replay": {"path": "folder"},
}
SHARE = r"=.* is outside \(0, 1\]. It is a share of the whole\."
BAD: list[tuple[Any, dict[str, Any], str]] = [
    (RPD, {"keep_ratio": 40}, r"^keep_ratio=40 is outside \(0, 1\].* For 40 % pass 0\.4\.$"),
    (RPD, {"keep_ratio": 0}, "keep_ratio" + SHARE),
    (RPD, {"keep_ratio": math.nan}, "keep_ratio" + SHARE),
    (RPD, {"keep_ratio": "half"}, r"^keep_ratio='half' must be a number in \(0, 1\], not str"),
    (RPD, {"keep_ratio": True}, "keep_ratio=True must be a number"),
    (RPC, {"keep_ratio": -0.1}, "keep_ratio" + SHARE),
    (RS2, {"keep_ratio": 1.01}, "keep_ratio" + SHARE),
    (InfoBatch, {"prune_ratio": 1}, r"prune_ratio=1 is outside \[0, 1\)"),
    (InfoBatch, {"prune_ratio": -3}, r"prune_ratio=-3 is outside \[0, 1\)"),
    (InfoBatch, {"delta": 1.5}, r"delta=1.5 is outside \[0, 1\]"),
    (IDS, {"keep_ratio": 80}, r"keep_ratio=80 is outside .* pass 0\.8"),
    (IDS, {"switch_epoch": -1}, "switch_epoch=-1 must be at least 0"),
    (IDS, {"switch_epoch": 1.5}, r"switch_epoch=1\.5 is outside \[0, 1\]"),
    (IDS, {"start_epoch": 0.5}, "start_epoch=0.5 must be a whole number of at least 0, not float"),
    (IDS, {"features": [1.0]}, r"features must be a \(N, D\) tensor, Features or a callable"),
    (Adonis, {"history": 1}, "history=1 must be at least 2"),
    (Adonis, {"history": 512.0}, "history=512.0 must be a whole number"),
    (Adonis, {"sigma": 0}, "sigma=0 must be a finite number above 0"),
    (Adonis, {"sigma": math.inf}, "sigma=inf must be a finite number above 0"),
    (Adonis, {"theta": 1}, r"theta=1 is outside \[0, 1\)"),
    (Adonis, {"theta": 12}, r"theta=12 is outside .* For 12 % pass 0\.12"),
    (Adonis, {"theta": "atuo"}, "theta 'atuo'. Did you mean 'auto'"),
    (Adonis, {"alpha": 0}, "alpha" + SHARE),
    (Adonis, {"alpha": 30}, r"alpha=30 .* For 30 % pass 0\.3"),
    (Adonis, {"rule": "sturgess"}, "rule 'sturgess'. Did you mean 'sturges'"),
    (Adonis, {"stale_epochs": 0}, "stale_epochs=0 must be at least 1"),
    (Adonis, {"start_epoch": -1}, "start_epoch=-1 must be at least 0"),
    (Adonis, {"theta": "auto", "keep_ratio": 2}, "keep_ratio" + SHARE),
    (
        Adonis,
        {"theta": "auto", "keep_ratio": 0.5, "alpha": 0.3},
        "keep_ratio=0.5 cannot be reached.*Raise alpha",
    ),
    (SB, {"beta": 0}, "beta=0 must be a finite number above 0"),
    (SB, {"history": 0}, "history=0 must be at least 2"),
    (SB, {"start_epoch": "1"}, "start_epoch='1' must be a whole number"),
    (StaleSB, {"staleness": 0}, "staleness=0 must be at least 1"),
    (StaleSB, {"beta": -1}, "beta=-1 must be a finite number above 0"),
]


@pytest.mark.parametrize(("method", "settings", "text"), BAD, ids=lambda value: getattr(value, "__name__", None))
def test_out_of_range(method: Any, settings: dict[str, Any], text: str) -> None:
    required = {"features": embedding()} if method is IDS else {}
    with pytest.raises((ValueError, TypeError), match=text):
        method(**(required | settings))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("adnois", "Unknown method 'adnois'. Did you mean 'adonis'"),
        ("ids+infobach", "Unknown method 'infobach'. Did you mean 'infobatch'"),
        ("infobatch+", r"'infobatch\+' lacks a method beside its \+"),
        ("+adonis", "lacks a method beside"),
        ("infobatch adonis", r"'infobatch adonis' is 2 methods: put a comma between them, or a \+ to compose"),
        ("", "Known: full, rpc, rpd, rs2, random-pb, infobatch"),
    ],
)
def test_unknown_method(given: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parts(given)
    with pytest.raises(ValueError, match=text):
        make(given)


def test_unknown_setting() -> None:
    with pytest.raises(ValueError, match=r"Unknown setting of adonis 'tehta'. Did you mean 'theta'"):
        make("rpd+adonis", {"adonis": {"tehta": 0.1}})


def test_settings_of_an_unknown_method() -> None:
    with pytest.raises(ValueError, match=r"'adnois'.*'adonis'"):
        make("adonis", {"adnois": {"theta": 0.1}})


@pytest.mark.parametrize("name", METHODS)
def test_make_by_name(name: str) -> None:
    made = make(name, {name: GIVEN.get(name, {})})
    assert type(made) is METHODS[name]


@pytest.mark.parametrize("name", GIVEN)
def test_what_a_method_must_be_given(name: str) -> None:
    missing = next(iter(GIVEN[name]))
    with pytest.raises(ValueError, match=rf"{name} needs the setting '{missing}': --set {name}\.{missing}=VALUE"):
        make(name)


def test_a_labelled_method_has_its_own_settings_on_top() -> None:
    settings = {"rs2": {"keep_ratio": 0.3}, "sb": {"beta": 3.0}, "sb@long": {"history": 64}}
    own = {"beta": 3.0, "history": 64, "start_epoch": 1}
    assert own.items() <= make("sb@long", settings).settings().items()
    assert make("sb", settings).settings()["history"] == 1024
    chain = make("rs2+sb@long", settings)
    assert isinstance(chain, Chain)
    assert chain.right.settings()["history"] == 64
    with pytest.raises(ValueError, match=r"sb@short has no settings of its own.*--set sb@short\."):
        make("sb@short", settings)
    with pytest.raises(ValueError, match="Did you mean 'history'"):
        make("sb@long", {"sb@long": {"histry": 3}})


def test_a_label_may_name_a_preset_of_the_method() -> None:
    """Over the settings of the method, and under those of the label."""
    printed = Adonis.preset("paper").settings()
    assert printed != Adonis().settings()
    assert make("adonis@paper").settings() == printed
    assert make("adonis@paper", {"adonis": {"theta": 0.3, "half_life": 4.0}}).settings() == printed | {"half_life": 4.0}
    assert make("adonis@paper", {"adonis@paper": {"theta": 0.3}}).settings() == printed | {"theta": 0.3}
    with pytest.raises(ValueError, match=r"adonis@papers has no settings of its own.*Or name a preset: paper\."):
        make("adonis@papers")
    with pytest.raises(ValueError, match=r"Unknown preset of Adonis 'papers'. Did you mean 'paper'"):
        Adonis.preset("papers")
    with pytest.raises(ValueError, match=r"Unknown preset of RPD 'paper'"):
        RPD.preset("paper")


def test_make_composes_left_to_right() -> None:
    made = make("rpd + rs2 + adonis", {"adonis": {"theta": "auto"}, "rs2": {"keep_ratio": 0.3}})
    assert isinstance(made, Chain)
    assert isinstance(made.left, Chain)
    assert isinstance(made.left.left, RPD)
    assert made.left.right.settings() == {"keep_ratio": 0.3}
    assert made.right.settings()["theta"] == "auto"


def test_settings_are_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        RPD(0.5)


def test_spaces_beside_a_plus_are_no_part_of_a_name():
    assert parts("ids + adonis@theta") == ["ids", "adonis@theta"]
