"""What requests and profiles may name."""

from dataclasses import asdict

from fastapi import APIRouter

from app.api.dependencies import Reader
from app.plugins.lint.catalogue import catalogue
from app.plugins.lint.routes.dependencies import Settings
from app.plugins.lint.schemas import DialectItem, DialectList, OptionItem, RuleItem, RuleList

router = APIRouter(prefix="/lint", tags=["lint"])


@router.get("/dialects")
async def list_dialects(settings: Settings, caller: Reader) -> DialectList:
    """Return the dialects of SQL that can be linted."""
    del caller  # It is enough that there is one.
    known = catalogue()
    return DialectList(
        items=[DialectItem(name=name, label=label) for name, label in known.dialects.items()],
        default=settings.default_dialect,
        sqlfluff_version=known.sqlfluff_version,
    )


@router.get("/rules")
async def list_rules(caller: Reader) -> RuleList:
    """Return the rules that violations come from and that requests can select, and the options
    that profiles can set.
    """
    del caller
    known = catalogue()
    return RuleList(
        items=[RuleItem.model_validate(asdict(rule)) for rule in known.rules],
        options=[OptionItem.model_validate(asdict(one)) for one in known.options.values()],
        sqlfluff_version=known.sqlfluff_version,
    )
