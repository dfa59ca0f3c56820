"""YAML as a configuration needs it: plain values, numbers as everybody writes them, and no key twice."""

import re
from pathlib import Path
from typing import Any

import yaml

from leantrain.utils import untrusted_input

YAML_BYTES, YAML_NODES, YAML_ITEM = 10**6, 10**5, 100  # bytes, items, letters; a configuration has a few dozen lines
INT, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
DIGITS = r"[0-9]+(_[0-9]+)*"
BASES = {"0x": 16, "0o": 8, "0b": 2}


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. ValueError, naming the file, for anything else."""
    try:
        content = parse_yaml(untrusted_input.read(path, YAML_BYTES))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--config {path} does not exist.") from error
    except ValueError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold settings by name, such as 'epochs: 20', not {type(content).__name__}.")
    given = content.get("settings") or {}
    if not isinstance(given, dict) or not all(isinstance(values, dict) for values in given.values()):
        raise ValueError(
            f"{path}: settings must hold values by method and setting, such as {{adonis: {{sigma: 1.5}}}}."
        )
    return content


def parse_yaml(text: str) -> Any:
    """The content of YAML text. ValueError for all else, too: nothing but plain values, nothing nested without end.

    Numbers are those of YAML 1.2: ``1e-4`` is one, 010 is ten; 1:30 is text. A key given twice is
    refused. Aliases are allowed, but counted as often as they are used: written out, a few lines can be billions of
    items, or of letters.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        untrusted_input.walk(node, _below, YAML_NODES)
        content = loader.construct_document(node)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {untrusted_input.DEPTH} levels") from None
    except Exception as error:  # yaml.YAMLError; tags that their text does not fit raise nearly every type
        raise ValueError(str(error) or type(error).__name__) from error
    untrusted_input.walk(content, untrusted_input.plain_items)
    str(content)  # ValueError for a number with more digits than Python prints
    return content


class _Loader(yaml.SafeLoader):
    """PyYAML's, which follows YAML 1.1, with the numbers of YAML 1.2."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML looks for a dict
        first: [rule for rule in rules if rule[0] not in (INT, FLOAT)]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, BASES.get(text.lstrip("+-")[:2], 10))


_Loader.add_implicit_resolver(
    INT, re.compile(rf"[-+]?(0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+|{DIGITS})$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    FLOAT,
    re.compile(
        rf"([-+]?(\.{DIGITS}|{DIGITS}(\.({DIGITS})?)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
_Loader.add_constructor(INT, _Loader.construct_int)


def _below(node: Any) -> Any:
    """The nodes within one: keys and values of a mapping, items of a sequence. A long text counts as several."""
    if isinstance(node, yaml.ScalarNode):
        return [None] * (len(node.value) // YAML_ITEM)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(f"{key.value[:YAML_ITEM]!r} is given twice, in lines {lines[key.value]} and {line}.")
            lines[key.value] = line
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else ()  # None: a piece of text
