"""Stock Celery, tuned as its manual says, to measure beside: late acks on a quorum queue."""

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Queue

from tests.integration.faults.fault_tasks import STARTS_FILE

app = Celery("stock", broker=os.environ["STOCK_BROKER_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_default_queue="stock",
    task_queues=[Queue("stock", queue_arguments={"x-queue-type": "quorum"})],
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    worker_hijack_root_logger=False,
)


@app.task(bind=True, name="stock.sleep")
def sleep(self: Any, seconds: float) -> None:
    """Note the start and take so long."""
    with Path(os.environ[STARTS_FILE]).open("a", encoding="utf-8") as starts:
        starts.write(f"{self.request.id} 0 {os.getpid()} {time.monotonic():.6f}\n")
    time.sleep(seconds)
