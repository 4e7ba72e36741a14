"""The plugin's routes: under /api/v1 and, for older clients, those of jobs without that prefix."""

from fastapi import APIRouter, Response

from app.api.routes.runs import get_task_result
from app.plugins.lint.routes import catalogue, job_streams, jobs, profiles

router = APIRouter()
router.include_router(jobs.router)
router.include_router(job_streams.router)
router.include_router(catalogue.router)
router.include_router(profiles.router)

# A file task's result is the result of the run with the same id.
root_router = APIRouter(tags=["lint"])
root_router.include_router(jobs.router)
root_router.add_api_route(
    "/tasks/{task_id}/result", get_task_result, methods=["GET"], response_class=Response
)
