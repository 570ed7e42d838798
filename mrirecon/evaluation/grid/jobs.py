"""Jobs in parallel processes: one that fails does not cost the others, and an interruption ends them all."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

import torch

from mrirecon.processor import set_up_for_tensors

Job = TypeVar("Job")
#: Called with what is done and the number of all, after each job.
Progress = Callable[[int, int], None]


def run_jobs(
    work: Callable[[Job], object], jobs: Sequence[Job], workers: int, threads: int, progress: Progress
) -> dict[int, Exception]:
    """Do `work` on every job; the errors by the job's position.

    With one worker in this process, else in processes of their own, each with `threads` threads, which decide the last
    digits of the results.
    """
    errors: dict[int, Exception] = {}
    if workers == 1 or len(jobs) < 2:
        for number, job in enumerate(jobs):
            try:
                work(job)
            except Exception as error:
                errors[number] = error
            progress(number + 1, len(jobs))
        return errors
    context = multiprocessing.get_context("spawn")  # a fork of a process that has threads can hang
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _set_up, (threads,))
    try:
        numbers = {pool.submit(work, job): number for number, job in enumerate(jobs)}
        for done, future in enumerate(as_completed(numbers), start=1):
            failure = future.exception()
            if isinstance(failure, Exception):
                errors[numbers[future]] = failure
            elif failure:
                raise failure
            progress(done, len(jobs))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()  # a training waits with SIGTERM; what it leaves is whole or not there
        raise
    pool.shutdown()
    return errors


def _set_up(threads: int) -> None:
    set_up_for_tensors()
    torch.set_num_threads(threads)
