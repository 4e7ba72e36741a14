"""The endpoint that a user would write by hand: FastAPI, one SQLAlchemy transaction, and
`apply_async` on the event loop.

Fair settings: asyncpg, a pool as large as ours, ids made in the process, no confirms, no
authentication, no checks beyond the model; uvicorn with uvloop and httptools and without an access
log, one process.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import JSON
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.peers.adapter import POSTGRES_URL
from bench.peers.celery_redis import create

engine = create_async_engine(
    os.environ[POSTGRES_URL].replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=5,
    max_overflow=5,
)
sessions = async_sessionmaker(engine, expire_on_commit=False)
celery = create("plain-api", None)


class Base(DeclarativeBase):
    pass


class Run(Base):
    __tablename__ = "plain_runs"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    task: Mapped[str]
    status: Mapped[str]
    params: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime]


class Submit(BaseModel):
    task: str
    params: dict[str, Any] = {}


class Accepted(BaseModel):
    task_id: uuid.UUID
    task: str
    status: str
    created_at: datetime


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    with celery.connection_for_write() as broker:
        for queue in celery.amqp.queues.values():
            queue(broker.default_channel).declare()
    yield
    with celery.connection_for_write() as broker:
        for queue in celery.amqp.queues.values():
            queue(broker.default_channel).delete()
    await engine.dispose()


app = FastAPI(lifespan=_lifespan)


@celery.task(name="nothing")
def nothing() -> None:
    pass


@app.post("/tasks/run", status_code=202)
async def run_task(body: Submit) -> Accepted:
    run = Run(
        id=uuid.uuid4(),
        task=body.task,
        status="PENDING",
        params=body.params,
        created_at=datetime.now(UTC).replace(tzinfo=None),
    )
    async with sessions.begin() as session:
        session.add(run)
    nothing.apply_async(task_id=str(run.id))
    return Accepted(task_id=run.id, task=run.task, status=run.status, created_at=run.created_at)


@app.get("/readyz")
async def ready() -> None:
    pass
