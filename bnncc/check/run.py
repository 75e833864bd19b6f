"""Measure all images: in this process, in several, or on a cluster; from the start, or from where a run was left.

Chunks of images go to the processes; what comes back is put into its rows.  So neither the number of processes nor
their order nor an interruption changes a figure.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from bnncc.check.measurements import NOT_MEASURED, Measurements
from bnncc.check.task import Task, measure
from bnncc.data import Dataset
from bnncc.errors import InputError
from bnncc.system.arrays import read_npz
from bnncc.system.files import write_atomically

# Told after each chunk: (images that are done, how many there are).
Progress = Callable[[int, int], None]

# Images in a chunk, rounded up to whole batches: enough to be worth asking a process for, and few for a progress bar.
CHUNK = 32
# A run that is to be resumed is saved so often, in seconds.
SAVE_INTERVAL = 10.0
# Seconds to wait for a dask scheduler.
DASK_TIMEOUT = 20


def run(
    task: Task,
    data: Dataset,
    *,
    jobs: int = 1,
    dask: str | None = None,
    resume: Path | None = None,
    progress: Progress | None = None,
) -> Measurements:
    """The rows of all images; some are NOT_MEASURED where Ctrl-C ended the run.

    jobs: processes on this machine.  dask: address of a scheduler whose workers are used instead.  resume: a file that
    keeps the rows measured so far; where it exists, the run goes on from it.

    Raises InputError where an image cannot be used, the resumed run is of something else, or there is no scheduler.
    """
    saved = _Saved(resume, task, data)
    rows = saved.rows
    size = task.specs[0].shape[0]
    step = size * -(-CHUNK // size)
    chunks = [(begin, min(begin + step, len(data))) for begin in range(0, len(data), step)]
    pending = [chunk for chunk in chunks if np.any(rows.state[slice(*chunk)] == NOT_MEASURED)]
    done = len(data) - sum(end - begin for begin, end in pending)
    try:
        for begin, part in _results(task, pending, jobs, dask):
            rows.put(begin, part)
            done += len(part.state)
            saved.save_now_and_then()
            if progress is not None:
                progress(done, len(data))
    except KeyboardInterrupt:
        pass  # what is measured so far is a result, too
    finally:
        saved.save()
    return rows


def _results(
    task: Task, chunks: list[tuple[int, int]], jobs: int, dask: str | None
) -> Iterator[tuple[int, Measurements]]:
    """What `measure` returns for each chunk, as they are ready."""
    if not chunks:
        return
    if jobs != 1 or dask is not None:
        _check_picklable(task)
    calls = (joblib.delayed(measure)(task, begin, end) for begin, end in chunks)
    with _backend(dask):
        # A cluster decides itself how many processes there are.
        parallel = joblib.Parallel(n_jobs=jobs if dask is None else -1, return_as="generator_unordered")
        results = parallel(calls)
        try:
            yield from results
        except BrokenProcessPool as error:
            raise InputError(
                "a process that measured was killed, by the system perhaps, as memory is used up: take fewer --jobs; "
                "with --resume FILE, what is measured is kept, and the next call goes on from it"
            ) from error
        except _lost_cluster(dask) as error:
            raise InputError(f"--dask: the cluster at {dask} was lost: {error}") from error
        finally:
            results.close()


def _lost_cluster(dask: str | None) -> tuple[type[BaseException], ...]:
    """What is raised where a cluster ends while it measures; nothing without one."""
    if dask is None:
        return ()
    from distributed import KilledWorker

    return (CancelledError, KilledWorker, OSError)


@contextlib.contextmanager
def _backend(dask: str | None) -> Iterator[None]:
    if dask is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("--dask needs the extra: pip install 'bnncc[dask]'") from error
    _say_it_once()
    try:
        client = Client(dask, timeout=DASK_TIMEOUT)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InputError(f"--dask: there is no scheduler at {dask}: {error}") from error
    with client, joblib.parallel_config(backend="dask"):
        yield


def _say_it_once() -> None:
    """What dask logs with a traceback of its own, when a cluster is lost, is said here in one line."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _check_picklable(task: Task) -> None:
    """A network that was built in this process may not be one that another can load."""
    import cloudpickle

    try:
        cloudpickle.dumps((task.network, task.data))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InputError(
            f"another process cannot load this network or these data ({error}): name them, as in net.py:make_net and "
            "data.py:make_data, or use one job"
        ) from error


class _Saved:
    """The file of `--resume`: a .npz of all rows, with a header that says what they are of."""

    def __init__(self, path: Path | None, task: Task, data: Dataset) -> None:
        """Raises InputError where the file is of another check."""
        self._path = path
        self._last = time.monotonic()
        self.rows = Measurements.empty(len(data), task.files)
        if path is not None:
            self._header = _header(task, data)
            if path.exists():
                self._load(path)

    def _load(self, path: Path) -> None:
        try:
            arrays = read_npz(path)
            header = json.loads(str(arrays.pop("header")))
            known = {name: header.get(name) for name in self._header}
        except (InputError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(f"--resume: {path} does not hold an interrupted check: {error}") from error
        other = [name for name in self._header if known[name] != self._header[name]]
        own = self.rows.arrays()
        if not other and _kinds(arrays) != _kinds(own):
            other = ["size"]
        if other:
            raise InputError(f"--resume: {path} is of another check (its {', '.join(other)}); name another file")
        for name, array in arrays.items():
            own[name][...] = array

    def save_now_and_then(self) -> None:
        """Save, unless that was done a moment ago."""
        if time.monotonic() - self._last > SAVE_INTERVAL:
            self.save()

    def save(self) -> None:
        """Write the file: whole or not at all."""
        if self._path is None:
            return
        stream = io.BytesIO()
        np.savez_compressed(stream, header=np.array(json.dumps(self._header)), **self.rows.arrays())
        write_atomically(self._path, stream.getvalue())
        self._last = time.monotonic()


def _kinds(arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, tuple[Any, ...]]:
    return {name: (array.dtype, array.shape) for name, array in arrays.items()}


def _header(task: Task, data: Dataset) -> dict[str, Any]:
    """Tells a check from others; what JSON has."""
    return {
        "files": {
            name: f"{file.runtime.value} {hashlib.sha256(file.content).hexdigest()}"
            for name, file in task.files.items()
        },
        "weights": task.weights_digest,
        "data": data.fingerprint,
        "preprocessing": task.preprocessing.as_json(),
        "skip_bad_images": task.skip_bad_images,
    }
