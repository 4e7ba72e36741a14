"""What can go wrong with schedules; each message carries the cure."""

from app.common.errors import Conflict, NotFound, ValidationFailed


class InvalidSchedule(ValidationFailed):
    """A field of the schedule is wrong, or its times would never come."""

    code = "INVALID_SCHEDULE"
    title = "Wrong schedule"


class ScheduleNotFound(NotFound):
    """No schedule has this id, or the caller may not see it."""

    code = "SCHEDULE_NOT_FOUND"
    title = "Schedule not found"


class ScheduleAlreadyExists(Conflict):
    """A schedule of this name exists already."""

    code = "SCHEDULE_ALREADY_EXISTS"
    title = "Schedule exists"


class ScheduleOfCode(Conflict):
    """Code declares the schedule; it can be paused here, and is changed or removed in the code."""

    code = "SCHEDULE_OF_CODE"
    title = "Schedule belongs to code"


class ScheduleHasChanged(Conflict):
    """The schedule is not as it was when the caller looked at it; look again, then change it."""

    code = "SCHEDULE_HAS_CHANGED"
    title = "Schedule changed meanwhile"
    status = 412
