"""Stored profiles: rules, options and severities under a name."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from app.api.cursors import open_cursor, seal_cursor
from app.api.dependencies import Manager, Reader
from app.plugins.lint.models import LintProfile
from app.plugins.lint.options import Wish
from app.plugins.lint.routes.dependencies import Profiles
from app.plugins.lint.schemas import (
    NewProfile,
    ProfileChange,
    ProfileContent,
    ProfileList,
    StoredProfile,
)

router = APIRouter(prefix="/lint/profiles", tags=["lint"])
Name = Annotated[str, Path(description="The profile's name.")]


@router.post("", status_code=201, responses={409: {"description": "The name is taken"}})
async def create_lint_profile(
    body: NewProfile, profiles: Profiles, caller: Manager, request: Request, response: Response
) -> StoredProfile:
    """Store a profile, which requests can name then."""
    made = await profiles.create(caller, body.name, body.description, _wish(body))
    response.headers["Location"] = f"{request.url.path.rstrip('/')}/{made.name}"
    return _view(made)


@router.get("")
async def list_lint_profiles(
    profiles: Profiles,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> ProfileList:
    """Return the profiles by name."""
    scope = ("lint profiles", caller.tenant)
    after = open_cursor(cursor, scope) or ""
    rows = await profiles.list(caller, after=after, limit=limit + 1)
    more = len(rows) > limit
    return ProfileList(
        items=[_view(row) for row in rows[:limit]],
        next_cursor=seal_cursor(rows[limit - 1].name if more else None, scope),
    )


@router.get("/{name}")
async def get_lint_profile(name: Name, profiles: Profiles, caller: Reader) -> StoredProfile:
    """Return a profile."""
    return _view(await profiles.get(caller, name))


@router.put("/{name}", responses={412: {"description": "It has another version by now"}})
async def replace_lint_profile(
    name: Name, body: ProfileChange, profiles: Profiles, caller: Manager
) -> StoredProfile:
    """Replace what a profile says; jobs that were submitted before keep what it said then."""
    changed = await profiles.replace(
        caller, name, body.description, _wish(body), version=body.version
    )
    return _view(changed)


@router.delete("/{name}", status_code=204)
async def delete_lint_profile(name: Name, profiles: Profiles, caller: Manager) -> None:
    """Remove a profile; jobs that used it stay as they are."""
    await profiles.delete(caller, name)


def _wish(body: ProfileContent) -> Wish:
    return Wish.from_json(body.model_dump(exclude={"name", "version", "description"}))


def _view(row: LintProfile) -> StoredProfile:
    # Written and checked by us, perhaps by an older program: it is shown as it is.
    return StoredProfile.model_validate(
        {
            **{name: row.wish.get(name) for name in ProfileContent.model_fields},
            "description": row.description,
            "name": row.name,
            "version": row.version,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
    )
