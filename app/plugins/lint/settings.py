"""`plugin_settings.lint`."""

import json
from difflib import get_close_matches
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.plugins.lint.catalogue import UnknownNameError, check_dialect
from app.plugins.lint.profiles import RAW
from app.plugins.lint.sandbox import SandboxLimits

_MEBIBYTE = 1024 * 1024
# Those of SQLFluff, but for the one that is any regular expression.
ParamStyle = Literal[
    "colon",
    "colon_nospaces",
    "colon_optional_quotes",
    "databricks",
    "numeric_colon",
    "pyformat",
    "dollar",
    "dollar_surround",
    "flyway_var",
    "question_mark",
    "numeric_dollar",
    "percent",
    "ampersand",
]


TemplaterName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class TemplaterSettings(BaseModel):
    """A templater that requests may name: what is between its braces becomes SQL.

    `context` are the variables of a ``jinja`` template, or the values of a ``placeholder``
    templater's parameters, which look as `param_style` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["jinja", "placeholder"]
    context: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")], str | int] = Field(
        default_factory=dict
    )
    param_style: ParamStyle | None = None

    @model_validator(mode="after")
    def _style_of_placeholders(self) -> Self:
        if (self.kind == "placeholder") != (self.param_style is not None):
            message = "param_style belongs to the kind 'placeholder', and to no other"
            raise ValueError(message)
        return self


class LintSettings(BaseModel):
    """Limits and defaults of the lint plugin; sizes and times carry their unit in the name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_dialect: str = "ansi"
    allow_noqa: bool = True
    # SQL is plain unless a request names one of these; `jinja` renders what strangers write.
    templaters: dict[TemplaterName, TemplaterSettings] = Field(default_factory=dict)
    max_text_bytes: int = Field(default=_MEBIBYTE, ge=1, le=16 * _MEBIBYTE)
    max_member_bytes: int = Field(default=256 * 1024, ge=1, le=16 * _MEBIBYTE)
    max_archive_files: int = Field(default=10_000, ge=1, le=100_000)
    max_archive_bytes: int = Field(default=256 * _MEBIBYTE, ge=1)
    deadline_base_seconds: float = Field(default=2.0, gt=0)
    deadline_seconds_per_kilobyte: float = Field(default=0.4, ge=0)
    deadline_max_seconds: float = Field(default=30.0, gt=0, le=600)
    # A fix takes five to ten times as long as a lint.
    max_fix_bytes: int = Field(default=64 * 1024, ge=1, le=16 * _MEBIBYTE)
    fix_deadline_factor: float = Field(default=5.0, ge=1)
    fix_deadline_max_seconds: float = Field(default=120.0, gt=0, le=600)
    sandbox_memory_mb: int = Field(default=1536, ge=256)
    sandbox_resident_mb: int = Field(default=256, ge=128)
    sandbox_files: int = Field(default=500, ge=1)
    batch_niceness: int = Field(default=10, ge=0, le=19)
    sandbox_processes: int = Field(default=2, ge=1, le=64)
    # Of ended jobs, with their rows and files; 0 keeps them for ever.
    retention_days: float = Field(default=30.0, ge=0)
    tidy_budget_seconds: float = Field(default=10.0, gt=0, le=120)
    cache_seconds: int = Field(default=7 * 86_400, ge=0)
    max_violations: int = Field(default=50_000, ge=1)

    @field_validator("templaters", mode="before")
    @classmethod
    def _map_of_the_environment(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("default_dialect")
    @classmethod
    def _known_dialect(cls, value: str) -> str:
        return check_dialect(value)

    def templating(self, name: str | None) -> str:
        """Return the `Profile.templating` of a templater; UnknownNameError for an unknown one."""
        if name is None or name == RAW:
            return ""
        if name not in self.templaters:
            raise UnknownNameError("templater", name, get_close_matches(name, self.templaters))
        told = {"name": name, **self.templaters[name].model_dump(exclude_none=True)}
        return json.dumps(told, sort_keys=True)

    def deadline_seconds(self, size_bytes: int) -> float:
        """Return how long the lint of a file of this size may take."""
        grown = self.deadline_base_seconds + self.deadline_seconds_per_kilobyte * size_bytes / 1024
        return min(grown, self.deadline_max_seconds)

    def fix_deadline_seconds(self, size_bytes: int) -> float:
        """Return how long the fix of a text of this size may take."""
        grown = self.fix_deadline_factor * self.deadline_seconds(size_bytes)
        return min(grown, self.fix_deadline_max_seconds)

    def sandbox_limits(self) -> SandboxLimits:
        """Return what one sandbox may use."""
        return SandboxLimits(
            dialect=self.default_dialect,
            allow_noqa=self.allow_noqa,
            memory_bytes=self.sandbox_memory_mb * _MEBIBYTE,
            max_resident_bytes=self.sandbox_resident_mb * _MEBIBYTE,
            max_files=self.sandbox_files,
            max_violations=self.max_violations,
            processes=self.sandbox_processes,
        )
