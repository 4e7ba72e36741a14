"""Every route of the API, called over HTTP alone; the same script for every form of the product."""

from collections.abc import Callable
from typing import Any

import httpx2

from tests.integration.system.main_job import main_job
from tests.integration.system.promised import promised_operations
from tests.integration.system.recording import Recorder, operations_of
from tests.integration.system.scenario import (
    batches,
    identities,
    jobs,
    lists,
    operations,
    options,
    runs,
    schedules,
    service,
)

Seen = dict[str, Any]


def every_route(client: httpx2.Client) -> tuple[Seen, list[str]]:
    """Do the main job and call every other route; return what was seen, and the operations that
    were promised or stand in the OpenAPI document and have not answered any request with success.
    """
    recorder = Recorder()
    base_url = str(client.base_url)
    root = base_url.removesuffix("/").removesuffix("/api/v1")
    nobody = recorder.watch(httpx2.Client(base_url=base_url, timeout=60, trust_env=False))
    recorder.watch(client)
    steps: dict[str, Callable[[], Any]] = {
        "tokens": lambda: identities.tokens(client, nobody),
        "users": lambda: identities.users(client),
        "service clients": lambda: identities.clients(client, nobody),
        "the registry": lambda: runs.registry(client),
        "submission": lambda: runs.submission(client),
        "options": lambda: options.options(client),
        "wrong options": lambda: options.wrong(client),
        "lists": lambda: lists.lists(client),
        "a cancelled run": lambda: runs.cancelled(client),
        "batches": lambda: batches.batches(client),
        "runs again": lambda: batches.rerun(client),
        "a run that is followed": lambda: runs.followed(client),
        "workers": lambda: operations.workers(client),
        "queues": lambda: operations.queues(client),
        "a failed run": lambda: runs.failed(client),
        "a schedule": lambda: schedules.managed(client),
        "a schedule that fires": lambda: schedules.fired(client),
        "jobs": lambda: jobs.jobs(client, root),
        "profiles of jobs": lambda: jobs.profiles(client),
        "jobs of older clients": lambda: jobs.older(client, root),
        "jobs that are cancelled": lambda: jobs.cancelled(client, root),
        "the service": lambda: service.service(client, root),
    }
    told = main_job(client) | {name: step() for name, step in steps.items()}
    document = client.get(f"{root}/openapi.json").json()
    nobody.close()
    return told, recorder.not_done({*operations_of(document), *promised_operations()})
