"""Writes `catalogue.json`: ``python -m app.plugins.lint.catalogue_source``.

Run it after an upgrade of SQLFluff; nothing else imports this module.
"""

import json
import sys
from importlib.metadata import version
from typing import Any

from sqlfluff.core import Linter
from sqlfluff.core.dialects import dialect_readout
from sqlfluff.core.rules.config_info import get_config_info

# What SQLFluff documents of its layout options; the other indentation options are yes or no.
_LAYOUT = {
    "indentation:indent_unit": ["space", "tab"],
    "indentation:implicit_indents": ["forbid", "allow", "require"],
    "indentation:trailing_comments": ["before", "after"],
}
_POSITIONS = ["leading", "trailing", "alone"]


def build_catalogue() -> dict[str, Any]:
    """Return what `catalogue.json` holds, read from the installed SQLFluff."""
    linter = Linter(dialect="ansi")
    rules = sorted(linter.get_rulepack().rules, key=lambda rule: rule.code)
    return {
        "sqlfluff_version": version("sqlfluff"),
        "dialects": {dialect.label: dialect.name for dialect in dialect_readout()},
        "rules": [
            {
                "code": rule.code,
                "name": rule.name,
                "description": rule.description,
                "groups": list(rule.groups),
                "aliases": list(rule.aliases),
                "fixable": rule.is_fix_compatible,
            }
            for rule in rules
        ],
        "options": [*_layout_options(linter), *_rule_options(linter, rules)],
    }


def _layout_options(linter: Linter) -> list[dict[str, Any]]:
    numbers = {"max_line_length": (0, 10_000), "indentation:tab_space_size": (1, 16)}
    config = linter.config
    told = [
        {"key": "max_line_length", "default": config.get("max_line_length")},
        *(
            {"key": f"indentation:{name}", "default": value}
            for name, value in config.get_section("indentation").items()
        ),
    ]
    options = []
    for option in told:
        default, key = option["default"], option["key"]
        if isinstance(default, bool):
            options.append({**option, "choices": [True, False]})
        elif key in _LAYOUT:
            options.append({**option, "choices": _LAYOUT[key]})
        elif key in numbers:
            low, high = numbers[key]
            options.append({**option, "minimum": low, "maximum": high})
    places = (
        {
            "key": f"layout:type:{kind}:line_position",
            "default": layout["line_position"],
            "choices": _POSITIONS,
        }
        for kind, layout in config.get_section(("layout", "type")).items()
        if layout.get("line_position") in _POSITIONS
    )
    return [{**option, "rule": None, "description": ""} for option in (*options, *places)]


def _rule_options(linter: Linter, rules: list[Any]) -> list[dict[str, Any]]:
    known = get_config_info()
    common = linter.config.get_section("rules")
    options = []
    for rule in rules:
        own = common.get(rule.name, {})
        for keyword in rule.config_keywords:
            allowed = known[keyword].get("validation")
            option = {
                "key": f"rules:{rule.name}:{keyword}",
                "rule": rule.code,
                "description": " ".join(known[keyword]["definition"].split()),
                "default": own.get(keyword, common.get(keyword)),
            }
            if isinstance(allowed, range):
                option |= {"minimum": allowed.start, "maximum": allowed.stop - 1}
            elif isinstance(option["default"], bool):
                option["choices"] = [True, False]
            elif allowed:
                option["choices"] = list(allowed)
            options.append(option)
    return options


if __name__ == "__main__":
    json.dump(build_catalogue(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
