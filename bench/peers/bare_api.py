"""The endpoint that does nothing: FastAPI reads and checks a body of two fields and answers with
four. What an API on FastAPI can reach at most. Served like `plain_api`.
"""

import uuid
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel


class Submit(BaseModel):
    task: str
    params: dict[str, Any] = {}


class Accepted(BaseModel):
    task_id: uuid.UUID
    task: str
    status: str
    created_at: datetime


app = FastAPI()


@app.post("/tasks/run", status_code=202)
async def run_task(body: Submit) -> Accepted:
    return Accepted(
        task_id=uuid.uuid4(), task=body.task, status="PENDING", created_at=datetime.now(UTC)
    )


@app.get("/readyz")
async def ready() -> None:
    pass
