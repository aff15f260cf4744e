import threading
import time

import pytest

from lm_offload.pipeline.progress import Progress
from lm_offload.schedule.task import TaskId

FIRST, SECOND = TaskId(0, "read", 0), TaskId(1, "read", 0)


def later(action, *args) -> threading.Thread:
    thread = threading.Timer(0.02, action, args)
    thread.start()
    return thread


def test_what_is_done_is_not_waited_for():
    progress = Progress()
    progress.finish(FIRST)
    assert progress.wait((FIRST,)) == 0.0
    assert progress.wait(()) == 0.0


def test_waiting_ends_when_the_last_need_is_announced():
    progress = Progress()
    progress.announce(FIRST)
    thread = later(progress.announce, SECOND)
    assert progress.wait((FIRST, SECOND)) > 0.005
    thread.join()


def test_an_error_ends_every_wait_and_the_first_one_counts():
    progress = Progress()
    later(progress.fail, OSError("first")).join()
    progress.fail(OSError("second"))
    with pytest.raises(OSError, match="first"):
        progress.wait((FIRST,))


def test_an_error_ends_a_wait_that_has_begun():
    progress = Progress()
    thread = later(progress.fail, OSError("broken"))
    start_s = time.perf_counter()
    with pytest.raises(OSError, match="broken"):
        progress.wait((FIRST,))
    assert time.perf_counter() - start_s < 5
    thread.join()


def test_tasks_of_forgotten_sweeps_count_as_done():
    progress = Progress()
    progress.finish(SECOND)
    progress.forget_before(1)
    assert progress.is_done((FIRST, SECOND))
    assert not progress.is_done((TaskId(1, "read", 5),))


def test_no_record_is_lost_that_is_made_while_others_are_forgotten():
    progress = Progress()
    tasks = [TaskId(1, "read", unit) for unit in range(20_000)]
    thread = threading.Thread(target=lambda: [progress.announce(task) for task in tasks])
    thread.start()
    while thread.is_alive():
        progress.forget_before(1)
    assert progress.is_done(tasks)
