"""YAML's numbers as everybody writes them, what stays text, and keys that are given twice."""

import math

import pytest

from leantrain.utils.yaml_text import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E4", 1e4),
        ("-2e+3", -2e3),
        ("1.5e3", 1500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("+3", 3),
        ("010", 10),
        ("0x1F", 31),
        ("-0o17", -15),
        ("0b101", 5),
        ("1_000", 1000),
        ("-.inf", -math.inf),
        ("true", True),
        ("no", False),
        ("~", None),
        ("1:30", "1:30"),
        ("1e", "1e"),
        ("1__0", "1__0"),
        ("inf", "inf"),
        ("1.2.3", "1.2.3"),
        ("'1e-4'", "1e-4"),
        ("٣", "٣"),  # a digit, but none of YAML's
    ],
)
def test_plain_values(text, value):
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)
    assert parse_yaml(f"[{text}]") == [value]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: 0.1\nbatch_size: 16\nlr: 0.0001\n", r"'lr' is given twice, in lines 1 and 3\."),
        ("lr: 0.1\n'lr': 0.1\n", r"'lr' is given twice, in lines 1 and 2\."),
        ("settings:\n  sb: {beta: 1}\n  sb: {beta: 2}\n", r"'sb' is given twice, in lines 2 and 3\."),
        ("settings: {sb: {beta: 1, beta: 2}}", r"'beta' is given twice, in lines 1 and 1\."),
    ],
)
def test_a_key_given_twice_is_refused(text, said, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"c.yaml is not YAML: {said}"):
        read_yaml(path)


def test_the_same_key_in_two_places_is_no_fault():
    assert parse_yaml("a: {x: 1}\nb: {x: 2}\nc: [{x: 3}, {x: 4}]")["b"] == {"x": 2}
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, x: 2}")["b"] == {"x": 2}
