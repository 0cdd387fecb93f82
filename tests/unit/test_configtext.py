"""The configuration's text: what was meant is what is read back, and nothing else changes."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufile_cli.configtext import Unchangeable, quoted, with_profile, without_profile

HAND_WRITTEN = """\
# my settings
colour = "blue"

[profiles.default]   # home
endpoint = 'cn-bj'
# the old key
public_key = "old"
private_key = "older"

# for work
[profiles."at work"]
endpoint = "hk"
future = [
  1,
  2,
]

[other]
x = 1
"""

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts)
def test_any_text_can_be_quoted(text: str) -> None:
    assert tomllib.loads(f"x = {quoted(text)}") == {"x": text}


@given(
    st.lists(st.tuples(texts.filter(bool), st.dictionaries(
        st.sampled_from(["endpoint", "public_key", "internal"]), st.none() | st.booleans() | texts
    )), max_size=5)
)  # fmt: skip
def test_says_what_was_meant(changes: list[tuple[str, dict[str, str | bool | None]]]) -> None:
    text = HAND_WRITTEN
    meant = tomllib.loads(text)
    for name, values in changes:
        text = with_profile(text, name, values)
        section = meant["profiles"].setdefault(name, {})
        section.update(values)
        meant["profiles"][name] = {k: v for k, v in section.items() if v is not None}
        assert tomllib.loads(text) == meant
    for name, _ in changes:
        if name in meant["profiles"]:
            text = without_profile(text, name)
            del meant["profiles"][name]
            assert tomllib.loads(text) == meant
    assert text.startswith('# my settings\ncolour = "blue"\n')


def test_comments_and_order_stay() -> None:
    changed = with_profile(HAND_WRITTEN, "default", {"public_key": "new", "endpoint": None})
    assert changed == HAND_WRITTEN.replace('"old"', '"new"').replace("endpoint = 'cn-bj'\n", "")
    gone = without_profile(HAND_WRITTEN, "default")
    assert "# for work" in gone and "# my settings" in gone and "the old key" not in gone


def test_a_new_file() -> None:
    assert with_profile("", "a", {"endpoint": "cn-bj", "internal": True}) == (
        '[profiles.a]\nendpoint = "cn-bj"\ninternal = true\n'
    )
    assert without_profile('[profiles.a]\nendpoint = "cn-bj"\n', "a") == ""


@pytest.mark.parametrize(
    "text",
    [
        'profiles = { a = { endpoint = "x" } }\n',
        'profiles.a.endpoint = "x"\n',
        '[profiles]\na = { endpoint = "x" }\n',
        '[profiles.a]\nendpoint = """x\n"""\n',
    ],
)
def test_other_styles_are_refused_not_mangled(text: str) -> None:
    with pytest.raises(Unchangeable):
        with_profile(text, "a", {"endpoint": "y"})
