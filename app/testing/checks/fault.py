"""One thing that is wrong with a plugin."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """What is wrong, where, and the cure."""

    rule: str
    where: str
    what: str
    cure: str

    def __str__(self) -> str:
        return f"[{self.rule}] {self.where}: {self.what}\n    {self.cure}"
