"""Diffs are what `patch` reads: applied to the text of before they give the text of after."""

import shutil
import subprocess
from pathlib import Path

import pytest

from app.plugins.lint.diffing import unified_diff, with_line_ends_of

TEXTS = {
    "a line in the middle": ("a\nb\nc\n", "a\nB\nc\n"),
    "no line end any more": ("a\nb\n", "a\nb"),
    "a line end more": ("a\nb", "a\nb\n"),
    "neither has one": ("a\nb", "a\nc"),
    "everything": ("a\n", "b\nc\n"),
    "line ends of other systems": ("a\r\nb\r\n", "a\r\nc\r\n"),
    "what only Python takes for a line end": ("a\x0b\x0c\x85\u2028b\n", "a\x0b\x0c\x85\u2028c\n"),
    "a mark at the start": ("\ufeffa\n", "\ufeffb\n"),
    "far apart": ("\n".join("abcdefghijklmnopqrstu"), "\n".join("Abcdefghijklmnopqrst")),
}


@pytest.mark.skipif(shutil.which("patch") is None, reason="needs the program patch")
@pytest.mark.parametrize("name", TEXTS)
def test_the_diff_makes_one_text_of_the_other(name: str, tmp_path: Path) -> None:
    before, after = TEXTS[name]
    file = tmp_path / "query.sql"
    file.write_bytes(before.encode())
    diff = f"--- a/query.sql\n+++ b/query.sql\n{unified_diff(before, after)}"
    subprocess.run(
        ["patch", "--binary", "-s", "-p1", str(file)],
        input=diff.encode(),
        check=True,
        cwd=tmp_path,
    )
    assert file.read_bytes() == after.encode()


def test_equal_texts_have_no_diff() -> None:
    assert unified_diff("a\nb", "a\nb") == ""


@pytest.mark.parametrize(
    ("original", "changed", "result"),
    [
        ("a\r\nb", "a\r\n\nb\n", "a\r\n\r\nb\r\n"),
        ("a\r\nb\n", "a\r\n\nb\n", "a\r\n\nb\n"),
        ("a\nb", "a\n\nb", "a\n\nb"),
        ("a", "a\n", "a\n"),
    ],
)
def test_line_ends_are_those_of_the_original(original: str, changed: str, result: str) -> None:
    assert with_line_ends_of(original, changed) == result
