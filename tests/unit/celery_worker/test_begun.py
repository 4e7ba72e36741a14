"""Which run a process has begun, told to its parent."""

import multiprocessing
import os

from app.celery_worker.begun import BegunRuns
from app.common.ids import new_id


def test_a_child_tells_its_parent_what_it_has_begun() -> None:
    page, first, second = BegunRuns(), new_id(), new_id()

    def work() -> None:
        page.note(first)
        page.note(second)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.pid is not None
    assert page.of(child.pid) == second
    assert page.of(os.getpid()) is None


def test_nobody_has_begun_anything_at_first() -> None:
    assert BegunRuns().of(os.getpid()) is None
