"""The Prometheus metrics that dashboards are written against. Labels are closed sets: no ids."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

HTTP_REQUESTS = Counter(
    "taskyard_http_requests_total", "HTTP requests answered.", ["method", "route", "status"]
)
HTTP_SECONDS = Histogram(
    "taskyard_http_request_duration_seconds",
    "Seconds from request to answer.",
    ["method", "route"],
    buckets=_SECONDS,
)
TASKS = Counter("taskyard_tasks_total", "Runs that reached a status.", ["task", "queue", "status"])
TASK_RUN_SECONDS = Histogram(
    "taskyard_task_run_seconds", "Seconds an attempt ran.", ["task", "queue"], buckets=_SECONDS
)
TASK_WAIT_SECONDS = Histogram(
    "taskyard_task_wait_seconds",
    "Seconds from due to started.",
    ["task", "queue"],
    buckets=_SECONDS,
)
TASK_RETRIES = Counter(
    "taskyard_task_retries_total", "Attempts that ended in another attempt.", ["task", "queue"]
)
TASKS_HELD = Counter(
    "taskyard_tasks_held_total",
    "Deliveries that were sent round because a limit was full.",
    ["task", "queue", "reason"],
)
STALE_WRITES = Counter(
    "taskyard_stale_writes_total",
    "Writes of attempts that had lost their lease, refused by the fence.",
    ["write"],
)
DUPLICATE_DELIVERIES = Counter(
    "taskyard_duplicate_deliveries_total",
    "Messages whose run could not be claimed: doubled, early or too late.",
    ["queue"],
)
OUTBOX_UNCONFIRMED = Counter(
    "taskyard_outbox_unconfirmed_total",
    "Messages that the broker did not confirm; the sweeper sends them again.",
)
SCHEDULE_FIRINGS = Counter(
    "taskyard_schedule_firings_total",
    "Fire times of schedules by what became of them.",
    ["outcome"],
)
SCHEDULE_LATENESS_SECONDS = Histogram(
    "taskyard_schedule_lateness_seconds",
    "Seconds from a fire time to the commit of its run.",
    buckets=_SECONDS,
)
SWEPT = Counter("taskyard_swept_runs_total", "Runs that the sweeper moved on.", ["reason"])
PURGED = Counter("taskyard_purged_total", "What retention has deleted, by kind.", ["kind"])
QUEUE_MESSAGES = Gauge(
    "taskyard_queue_messages",
    "Messages by queue and kind.",
    ["queue", "kind"],
    multiprocess_mode="livemostrecent",
)
QUEUE_PAUSED = Gauge(
    "taskyard_queue_paused",
    "1 while somebody has paused the queue, else 0.",
    ["queue"],
    multiprocess_mode="livemostrecent",
)
CACHE_REQUESTS = Counter("taskyard_cache_requests_total", "Cache look-ups by result.", ["result"])
DB_POOL_IN_USE = Gauge(
    "taskyard_db_pool_in_use", "Database connections in use.", ["bind"], multiprocess_mode="livesum"
)
