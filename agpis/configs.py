"""Config dataclasses of the training commands: changed from a file or the command line, and shown with their sentences.

Every field of a config has a sentence under it in the source; `described` reads it there, so that help cannot drift.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from agpis.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def overridden(config: Config, changes: Mapping[str, Any]) -> Config:
    """`config` with fields changed; keys are names, or paths such as `optim.lr`; values may be nested mappings.

    A nested config that is None is made from its defaults once one of its fields is named. Raises SettingsError
    `bad_setting` naming the field, what was found and what is allowed.
    """
    kind: Any = type(config)
    allowed, hints = [field.name for field in fields(kind)], _hints(kind)
    grouped: dict[str, Any] = {}
    for path, value in changes.items():
        name, _, rest = str(path).partition(".")
        if name not in allowed:
            raise SettingsError(
                "bad_setting", f"{kind.__name__} has no field {name!r}; allowed are {', '.join(sorted(allowed))}."
            )
        given = {rest: value} if rest else value
        before = grouped.get(name) or {}
        if isinstance(given, Mapping) and isinstance(before, Mapping):
            grouped[name] = {**before, **given}  # a later change wins
        elif rest:
            raise SettingsError("bad_setting", f"{name} is set as a whole and by {path}; give one of the two.")
        else:
            grouped[name] = given
    found: dict[str, Any] = {}
    for name, value in grouped.items():
        nested = _nested(hints[name])
        if nested is not None and isinstance(value, Mapping):
            present = getattr(config, name)
            found[name] = overridden(present if present is not None else nested(), value)
            continue
        try:
            found[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            said = "; ".join(entry["msg"] for entry in error.errors())
            raise SettingsError(
                "bad_setting", f"{kind.__name__}.{name} is {value!r}: {said}. {described(config)[name]}"
            ) from None
        if isinstance(found[name], float) and not math.isfinite(found[name]):
            raise SettingsError("bad_setting", f"{kind.__name__}.{name} is {value!r}: it must be a finite number.")
    return replace(config, **found)


def from_options(options: list[str]) -> dict[str, Any]:
    """`["optim.lr=3e-4", "compare=false"]` to changes; values are read as YAML. Raises SettingsError `bad_setting`."""
    changes: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise SettingsError("bad_setting", f"--set {option!r}: wanted NAME=VALUE, such as optim.lr=0.0003.")
        changes[name] = _value(value)
    return changes


def from_file(path: Path) -> dict[str, Any]:
    """Changes of a YAML file. Raises SettingsError `bad_setting`."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError("bad_setting", f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(found, dict):
        raise SettingsError("bad_setting", f"{path} holds a {type(found).__name__}; wanted names and values.")
    return found


def described(config: Any) -> dict[str, str]:
    """Sentence of each field."""
    kind: Any = type(config)
    return _sentences(kind)


def lines(config: Any, indent: str = "") -> Iterator[str]:
    """The config as YAML with each field's sentence as a comment; can be given back to `from_file`."""
    for field in fields(config):
        value = getattr(config, field.name)
        yield f"{indent}# {described(config)[field.name]}"
        if is_dataclass(value):
            yield f"{indent}{field.name}:"
            yield from lines(value, indent + "  ")
        else:
            shown = yaml.safe_dump(
                list(value) if isinstance(value, tuple) else value, default_flow_style=True, width=1 << 20
            )
            shown = shown.removesuffix("...\n").strip()
            yield f"{indent}{field.name}: {shown}"


def _value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):  # YAML 1.1 takes 3e-4 for a text
        try:
            return float(value)
        except ValueError:
            return value
    return value


@lru_cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _nested(hint: Any) -> Any:
    """The dataclass of a hint such as `Optim` or `BackboneConfig | None`."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return next((option for option in options if inspect.isclass(option) and is_dataclass(option)), None)


@lru_cache
def _sentences(kind: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for before, after in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[before.target.id] = " ".join(str(after.value.value).split())
    return {field.name: found.get(field.name, "") for field in fields(kind)}
