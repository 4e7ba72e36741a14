"""What a request asks for: its options, over those of a stored profile, and its baseline."""

from dataclasses import dataclass
from typing import Any

from app.auth.principal import Principal
from app.common.errors import FieldError
from app.db import Databases
from app.plugins.lint import repository
from app.plugins.lint.errors import (
    JobNotFinished,
    JobNotFound,
    LintFieldInvalid,
    LintProfileNotFound,
)
from app.plugins.lint.models import BIND, JobStatus, LintingJob
from app.plugins.lint.options import LintOptions, Wish, check_wish, resolve
from app.plugins.lint.settings import LintSettings
from app.plugins.lint.stored_profiles import StoredProfiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How a job's files are linted and judged, and the earlier job that they are compared with."""

    options: LintOptions
    baseline_job_id: str | None = None


@dataclass(frozen=True, slots=True)
class Ordering:
    """Reads requests within what the caller may see."""

    databases: Databases
    settings: LintSettings

    async def read(
        self, caller: Principal, wish: Wish, profile: str | None, baseline_job_id: str | None
    ) -> Order:
        """Return what a request asks for; LintFieldInvalid lists every wrong name.

        What the request says itself counts more than what the stored profile says.
        """
        stored: dict[str, Any] = {}
        if profile is not None:
            said, stored = await self._read_profile(caller, profile)
            wish = wish.over(said)
        # The stored one as well: a rule can be gone since then.
        checked = check_wish(wish, self.settings)
        if baseline_job_id is not None:
            await self._check_baseline(caller, baseline_job_id)
        return Order(
            options=resolve(checked, self.settings, **stored), baseline_job_id=baseline_job_id
        )

    async def _read_profile(self, caller: Principal, name: str) -> tuple[Wish, dict[str, Any]]:
        try:
            found = await StoredProfiles(self.databases, self.settings).get(caller, name)
        except LintProfileNotFound as error:
            raise _refused("profile", error.detail, "unknown_profile") from None
        named = {"profile_name": found.name, "profile_version": found.version}
        return Wish.from_json(found.wish), named

    async def _check_baseline(self, caller: Principal, job_id: str) -> None:
        try:
            job = await find_visible_job(self.databases, job_id, caller)
            if not JobStatus(job.status).has_ended:
                raise JobNotFinished(job.status)
        except (JobNotFound, JobNotFinished) as error:
            message = f"The baseline cannot be used: {error.detail}"
            raise _refused("baseline_job_id", message, "unusable_baseline") from None


async def find_visible_job(databases: Databases, job_id: str, caller: Principal) -> LintingJob:
    """Return a job that the caller may see, the own or, for an administrator, any; JobNotFound."""
    async with databases.transaction(BIND) as session:
        job = await session.run_sync(repository.find_job, job_id)
    if job is None or not _may_see(job, caller):
        raise JobNotFound
    return job


def _may_see(job: LintingJob, caller: Principal) -> bool:
    mine = job.created_by == caller.id or caller.allows("admin")
    return mine and (caller.tenant is None or job.tenant == caller.tenant)


def _refused(field: str, message: str, kind: str) -> LintFieldInvalid:
    return LintFieldInvalid(message, errors=[FieldError(("body", field), message, kind)])
