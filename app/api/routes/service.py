"""What the service says about itself: its settings and its errors."""

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from app.api.dependencies import CoreServices, requires
from app.common.errors import NotFound, TaskyardError, all_errors, meaning_of
from app.config.loading import masked

router = APIRouter(tags=["service"])


class ErrorMeaning(BaseModel):
    """One error code."""

    code: str
    status: int
    title: str
    meaning: str


class ErrorList(BaseModel):
    """Every error code."""

    items: list[ErrorMeaning]
    next_cursor: str | None = None


@router.get("/config", dependencies=[Depends(requires("admin"))])
async def get_config(services: CoreServices) -> dict[str, Any]:
    """Return the settings in force; whatever is secret is masked."""
    return masked(services.settings)


@router.get("/errors")
async def list_errors() -> ErrorList:
    """Return every error code with its status and meaning."""
    return ErrorList(items=[_meaning(error) for error in all_errors()])


@router.get("/errors/{code}")
async def get_error(code: str) -> ErrorMeaning:
    """Return the meaning of one error code; the `type` of a problem document points here."""
    for error in all_errors():
        if error.code == code:
            return _meaning(error)
    raise NotFound("No error has this code.")


def _meaning(error: type[TaskyardError]) -> ErrorMeaning:
    return ErrorMeaning(
        code=error.code, status=error.status, title=error.title, meaning=meaning_of(error)
    )
