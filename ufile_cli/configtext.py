"""The text of the configuration file: one profile put in or taken out, all the rest kept.

Pure. The standard library reads TOML and writes none, so lines are changed by hand, comments and
other sections stay as somebody wrote them, and the result is read back: where it does not say
exactly what was meant, nothing is written. A file written in some other style of TOML (inline
tables, dotted keys) is thus refused, never mangled.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

__all__ = ["Unchangeable", "quoted", "with_profile", "without_profile"]

Value = str | bool

_HEADER = re.compile(r"\s*\[[^\[]")
_ANY_HEADER = re.compile(r"\s*\[")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Unchangeable(ValueError):
    """The file is written in a way that can't be changed line by line."""


def quoted(text: str) -> str:
    """A basic string of TOML. Control characters can't stand in one as they are."""
    shown = []
    for character in text:
        if character in _SHORT:
            shown.append(_SHORT[character])
        elif ord(character) < 32 or ord(character) == 127:
            shown.append(f"\\u{ord(character):04X}")
        else:
            shown.append(character)
    return '"' + "".join(shown) + '"'


def with_profile(text: str, name: str, values: Mapping[str, Value | None]) -> str:
    """The text with these values in `[profiles.NAME]`; None takes a key out.

    Raises:
        Unchangeable: the text would not say that afterwards.
    """
    meant = tomllib.loads(text)
    section = meant.setdefault("profiles", {}).setdefault(name, {})
    for key, value in values.items():
        section.pop(key, None)
        if value is not None:
            section[key] = value
    lines = _lines(text)
    begin, end = _section(lines, name)
    if begin is None:
        if lines and lines[-1].strip():
            lines.append("")
        lines.append(f"[profiles.{name if _BARE.fullmatch(name) else quoted(name)}]")
        begin, end = len(lines) - 1, len(lines)
    body = lines[begin + 1 : end]
    for key, value in values.items():
        body = _with_value(body, key, value)
    return _checked([*lines[: begin + 1], *body, *lines[end:]], meant)


def without_profile(text: str, name: str) -> str:
    """The text without `[profiles.NAME]`.

    Raises:
        Unchangeable: it can't be taken out alone.
        KeyError: there is none of this name.
    """
    meant = tomllib.loads(text)
    del meant["profiles"][name]
    lines = _lines(text)
    begin, end = _section(lines, name)
    if begin is None:
        raise Unchangeable(f"the profile {name} has no section [profiles.{name}] of its own")
    rest = lines[:begin] + lines[end:]
    while rest and not rest[-1].strip():
        rest.pop()
    if not meant["profiles"] and "profiles" not in tomllib.loads("\n".join(rest)):
        del meant["profiles"]
    return _checked(rest, meant)


def _lines(text: str) -> list[str]:
    """The lines as TOML counts them: str.splitlines also ends one at U+0085 and the like."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _checked(lines: list[str], meant: dict[str, Any]) -> str:
    text = "\n".join(lines) + "\n" if lines else ""
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Unchangeable("it can't be changed line by line") from error
    if said != meant:
        raise Unchangeable("it can't be changed line by line")
    return text


def _section(lines: list[str], name: str) -> tuple[int | None, int]:
    """Where the section's header stands, and where the next thing begins."""
    begin = None
    for number, line in enumerate(lines):
        if begin is None:
            if _HEADER.match(line) and _named(line) == name:
                begin = number
        elif _ANY_HEADER.match(line):
            # Comments and blank lines above a header belong to that one.
            while number > begin + 1 and lines[number - 1].lstrip()[:1] in ("", "#"):
                number -= 1
            return begin, number
    return begin, len(lines)


def _named(header: str) -> str | None:
    """The profile that a header line begins, None where it is another one's."""
    try:
        said = tomllib.loads(header)
    except tomllib.TOMLDecodeError:
        return None
    profiles = said.get("profiles")
    if len(said) != 1 or not isinstance(profiles, dict) or len(profiles) != 1:
        return None
    name, inner = next(iter(profiles.items()))
    return name if inner == {} else None


def _with_value(body: list[str], key: str, value: Value | None) -> list[str]:
    its = re.compile(rf"\s*(?:{re.escape(key)}|\"{re.escape(key)}\"|'{re.escape(key)}')\s*=")
    kept = [line for line in body if not its.match(line)]
    if value is None:
        return kept
    shown = ("true" if value else "false") if isinstance(value, bool) else quoted(value)
    line = f"{key} = {shown}"
    for number, old in enumerate(body):
        if its.match(old):
            return [*kept[:number], line, *kept[number:]]
    at = len(kept)
    while at and not kept[at - 1].strip():
        at -= 1
    return [*kept[:at], line, *kept[at:]]
