"""What can go wrong with tasks and runs; each message carries the cure."""

from app.common.errors import (
    BadRequest,
    ConfigurationError,
    Conflict,
    NotFound,
    PayloadTooLarge,
    TaskyardError,
    ValidationFailed,
)


class TaskDeclarationError(ConfigurationError):
    """A function decorated with `register_task` cannot be a task as it stands."""

    code = "TASK_DECLARATION_ERROR"
    title = "Task cannot be declared"


class DuplicateTaskError(ConfigurationError):
    """Two functions claim one task name or alias; the process does not start."""

    code = "DUPLICATE_TASK"
    title = "Task name used twice"


class TaskNotRegistered(NotFound):
    """No task has this name in this installation."""

    code = "TASK_NOT_REGISTERED"
    title = "Task not registered"


class TaskAlreadyRegistered(Conflict):
    """A task with this name exists already."""

    code = "TASK_ALREADY_REGISTERED"
    title = "Task already registered"


class TaskInUse(Conflict):
    """A task that code registers cannot be deleted; only derived tasks can."""

    code = "TASK_NOT_DERIVED"
    title = "Not a derived task"


class InvalidParams(ValidationFailed):
    """The parameters break the task's schema."""

    code = "INVALID_PARAMS"
    title = "Wrong parameters"


class InvalidOptions(ValidationFailed):
    """An option of the run is out of range or names what does not exist."""

    code = "INVALID_OPTIONS"
    title = "Wrong options"


class ParamsTooLarge(PayloadTooLarge):
    """The parameters are larger than `limits.max_params_bytes`; pass a storage key instead."""

    code = "PARAMS_TOO_LARGE"
    title = "Parameters too large"


class InvalidIdempotencyKey(BadRequest):
    """An idempotency key is 1 to 255 printable ASCII characters."""

    code = "INVALID_IDEMPOTENCY_KEY"
    title = "Wrong idempotency key"


class IdempotencyKeyReused(ValidationFailed):
    """The idempotency key was used before with another body."""

    code = "IDEMPOTENCY_KEY_REUSED"
    title = "Idempotency key reused"


class IdempotencyKeyInFlight(Conflict):
    """The first request with this idempotency key is still under way; ask again."""

    code = "IDEMPOTENCY_KEY_IN_FLIGHT"
    title = "Request in flight"


class RunNotFound(NotFound):
    """No run has this id, or the caller may not see it."""

    code = "RUN_NOT_FOUND"
    title = "Run not found"


class RunAlreadyExists(Conflict):
    """A run with this id was submitted before."""

    code = "RUN_ALREADY_EXISTS"
    title = "Run exists"


class RunTaskNotRegistered(Conflict):
    """The task of the run is not registered any more, so it cannot run again."""

    code = "RUN_TASK_NOT_REGISTERED"
    title = "Task of the run not registered"


class BatchNotFound(NotFound):
    """No batch has this id, or the caller may not see it."""

    code = "BATCH_NOT_FOUND"
    title = "Batch not found"


class InvalidBatch(ValidationFailed):
    """Items of a batch are wrong; none of them was accepted, and `errors` names each."""

    code = "INVALID_BATCH"
    title = "Wrong items in the batch"


class TaskNotFinished(Conflict):
    """The run has no result: it has not ended, or it did not succeed."""

    code = "TASK_NOT_FINISHED"
    title = "Run has no result"


class RunHasEnded(Conflict):
    """The run has ended; there is nothing to cancel."""

    code = "RUN_HAS_ENDED"
    title = "Run has ended"


class InvalidCursor(BadRequest):
    """The cursor was not made by this list; start again without one."""

    code = "INVALID_CURSOR"
    title = "Wrong cursor"


class StaleAttempt(TaskyardError):
    """The attempt has lost its lease: another attempt has taken over, and nothing more is
    written.
    """

    code = "STALE_ATTEMPT"
    title = "Attempt lost its lease"


class RunCancelled(TaskyardError):
    """The run was cancelled while it ran; raised inside the task by `raise_if_cancelled`."""

    code = "RUN_CANCELLED"
    title = "Run cancelled"


class DeadLetterNotFound(NotFound):
    """No dead letter has this id, or the caller may not see it."""

    code = "DEAD_LETTER_NOT_FOUND"
    title = "Dead letter not found"


class DeadLetterReplayed(Conflict):
    """The dead letter was replayed before; `run_id` names the run, the only one of this letter."""

    code = "DEAD_LETTER_REPLAYED"
    title = "Dead letter replayed before"


class DeadLetterDiscarded(Conflict):
    """The dead letter was discarded, so it is not replayed; run its task anew."""

    code = "DEAD_LETTER_DISCARDED"
    title = "Dead letter discarded"


class DeadLetterHasNoRun(Conflict):
    """The dead letter is a message without a run, so there is nothing to run again."""

    code = "DEAD_LETTER_HAS_NO_RUN"
    title = "Dead letter without a run"


class DeadLetterTaskNotRegistered(Conflict):
    """The dead letter's task is not registered any more; load its plugin or keep its old name."""

    code = "DEAD_LETTER_TASK_NOT_REGISTERED"
    title = "Task of the dead letter not registered"


class QueueNotFound(NotFound):
    """This installation has no class of queues of this name."""

    code = "QUEUE_NOT_FOUND"
    title = "Queue not found"


class WorkerNotFound(NotFound):
    """No worker of this name has been heard of within a day; `GET /workers` lists them."""

    code = "WORKER_NOT_FOUND"
    title = "Worker not found"
