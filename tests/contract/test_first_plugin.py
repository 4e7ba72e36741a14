"""The guide "Your first plugin in five minutes", followed to the letter."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.sockets import free_port

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "first-plugin.md"
BLOCK = re.compile(r"(?:<!-- test: (\w+) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
TARGET = re.compile(r"# (demo_plugin/\S+\.py)\n")


@dataclass(frozen=True)
class Block:
    """One block of code of the guide, and what a test does with it."""

    language: str
    text: str
    treatment: str


def blocks() -> list[Block]:
    found = BLOCK.findall(GUIDE.read_text("utf-8"))
    return [Block(language, text, treatment or "run") for treatment, language, text in found]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator["Reader"]:
    follower = Reader(tmp_path)
    yield follower
    follower.close()


class Reader:
    """Somebody in a fresh checkout, with a terminal for what goes on in the background."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".venv").symlink_to(sys.prefix)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
        self.environment = {**kept, "PORT": str(free_port())}
        self.background: list[subprocess.Popen[str]] = []

    def do(self, block: Block) -> None:
        if block.language == "python":
            self._append(block.text)
        elif block.treatment == "background":
            self._start(block.text)
        elif block.treatment == "run":
            done = self._bash(block.text)
            assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"

    def close(self) -> None:
        for process in self.background:
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=60)

    def _append(self, text: str) -> None:
        named = TARGET.match(text)
        assert named is not None, f"the block does not name its file:\n{text}"
        with (self.folder / named[1]).open("a", encoding="utf-8") as file:
            file.write(text.removeprefix(named[0]))

    def _bash(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def _start(self, text: str) -> None:
        log = self.folder / "background.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-c", text],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.background.append(process)
        while "startup complete" not in log.read_text("utf-8"):
            assert process.poll() is None, log.read_text("utf-8")
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_block_of_the_guide_works(reader: Reader) -> None:
    for block in blocks():
        reader.do(block)
    # What was written keeps the house's rules as well.
    ruff = "cd demo_plugin; ../.venv/bin/python -m ruff"
    reader.do(Block("sh", f"{ruff} check .; ../.venv/bin/python -m ruff format --check .", "run"))


def test_the_guide_is_read_as_it_is_meant() -> None:
    assert [(block.language, block.treatment) for block in blocks()] == [
        ("sh", "skip"),
        ("sh", "run"),
        ("python", "run"),
        ("python", "run"),
        ("sh", "run"),
        ("sh", "background"),
        ("sh", "run"),
        ("sh", "skip"),
    ]
