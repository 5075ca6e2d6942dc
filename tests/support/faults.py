# SPDX-License-Identifier: Apache-2.0
"""Disks that fill up, folders that refuse, and processes that are killed while they save.

`storage_operations` counts the steps of a write (open, write, fsync, replace) and makes one of them fail or kill the process.
`kill_at_every_operation`, `kill_at_random` and `fill_the_disk` run a saver of `savers` in forked children of a fresh interpreter:
`python -m tests.support.faults MODE SAVER PATH`.
"""

import errno
import io
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from mvp4d_core.errors import StorageError

_REPOSITORY = Path(__file__).resolve().parents[2]

Action = Callable[[str], None]

DISK_ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)


def file_names(folder: Path) -> list[str]:
    """The names in `folder`, hidden ones included, sorted."""
    return sorted(path.name for path in folder.iterdir())


def failing(code: int) -> Action:
    """The action that raises the operating system's error `code`, such as `errno.ENOSPC`."""

    def fail(_: str) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def interrupting(_: str) -> None:
    """The action of Ctrl-C."""
    raise KeyboardInterrupt


def killing(_: str) -> None:
    """The action that ends this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def storage_operations(at: int = 0, action: Action | None = None) -> Iterator[list[str]]:
    """Gives the list of the storage operations so far; just before operation number `at` (from 1) is done, `action` gets its name."""
    done: list[str] = []
    real_open, real_fsync, real_replace = io.open, os.fsync, os.replace

    def count(name: str) -> None:
        done.append(name)
        if len(done) == at and action is not None:
            action(name)

    class CountedFile(io.FileIO):
        def write(self, data: Any) -> int:
            count("write")
            return super().write(data)

    def counted_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wxa+"):
            return real_open(file, mode, *args, **kwargs)
        count("open")
        raw = CountedFile(file, mode.replace("b", ""))
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

    def counted_fsync(descriptor: int) -> None:
        count("fsync")
        real_fsync(descriptor)

    def counted_replace(source: Any, target: Any, **kwargs: Any) -> None:
        count("replace")
        real_replace(source, target, **kwargs)

    places: list[tuple[Any, str, Callable]] = [(io, "open", counted_open), (os, "fsync", counted_fsync), (os, "replace", counted_replace)]
    if sys.version_info < (3, 11):  # where pathlib keeps the functions it found when it was imported
        accessor = pathlib._NormalAccessor
        places += [(accessor, "open", staticmethod(counted_open)), (accessor, "replace", staticmethod(counted_replace))]
    with ExitStack() as stack:
        for owner, name, counted in places:
            stack.enter_context(mock.patch.object(owner, name, counted))
        yield done


def assert_survives_faults(save: Callable[[int], None], load: Callable[[], int], folder: Path) -> int:
    """Fails each storage operation of `save(2)` once with each disk error and once with Ctrl-C, over a file that `save(1)` wrote.

    Asserts that each failure is a `StorageError`, that the file is version 1 or 2 whole, and that no temporary file is left.
    Returns how many operations a save has.
    """
    for number in itertools.count(1):
        for action in [*map(failing, DISK_ERRORS), interrupting]:
            save(1)
            names = file_names(folder)
            with storage_operations(number, action) as done:
                try:
                    save(2)
                except (StorageError, KeyboardInterrupt) as error:
                    assert isinstance(error, KeyboardInterrupt) == (action is interrupting), repr(error)
                else:
                    assert len(done) < number, f"operation {number} ({done[-1]}) failed and nobody noticed"
            assert load() == (2 if "replace" in done[: number - 1] else 1)
            assert file_names(folder) == names
        if len(done) < number:
            return len(done)
    raise AssertionError("a save has an end")


@contextmanager
def unprivileged() -> Iterator[None]:
    """Gives up root's power to write anywhere, for tests of permissions; does nothing for other users."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def kill_at_every_operation(saver: str, path: Path) -> list[str]:
    """Kills a save before each of its storage operations; returns the operations, having asserted that the file stays whole."""
    return _run("operations", saver, path)["operations"]


def kill_at_random(saver: str, path: Path, rounds: int) -> int:
    """Kills a process that saves version after version, at random moments; returns in how many rounds a save was under way."""
    return _run("random", saver, path, str(rounds))["interrupted"]


def fill_the_disk(saver: str, path: Path, sizes: list[int]) -> list[str]:
    """Saves where no file can grow beyond each of `sizes` bytes; returns the messages of the `StorageError`s."""
    return _run("limit", saver, path, *map(str, sizes))["messages"]


def _run(mode: str, saver: str, path: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.support.faults", mode, saver, str(path), *arguments]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=_REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def _fork(action: Callable[[], object]) -> tuple[int, int]:
    """A child that runs `action` and sends the result as JSON: its process id and the pipe to read from.

    All saving and loading happens in children, because encoders leave threads behind, and threads do not survive a fork.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    try:
        os.write(writing, json.dumps(action()).encode())
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _finish(child: tuple[int, int]) -> tuple[int, str]:
    """The child's status and what it sent."""
    process, reading = child
    with os.fdopen(reading, encoding="utf-8") as pipe:
        sent = pipe.read()
    return os.waitpid(process, 0)[1], sent


def _in_child(action: Callable[[], Any]) -> Any:
    status, sent = _finish(_fork(action))
    assert status == 0, "the child failed, as written above"
    return json.loads(sent)


def _kill_at_every_operation(saver: Any, path: Path) -> dict[str, Any]:
    def operations_of_a_save() -> list[str]:
        with storage_operations() as operations:
            saver.save(path, 1)
        return operations

    def save_and_die(number: int) -> None:
        with storage_operations(number, killing):
            saver.save(path, 2)

    operations = _in_child(operations_of_a_save)
    for number in range(1, len(operations) + 1):
        _in_child(lambda: saver.save(path, 1))
        status, _ = _finish(_fork(partial(save_and_die, number)))
        assert os.WIFSIGNALED(status), f"the save outlived operation {number}"
        assert _in_child(lambda: saver.load(path)) == (2 if "replace" in operations[: number - 1] else 1)
    return {"operations": operations}


def _kill_at_random(saver: Any, path: Path, rounds: int) -> dict[str, Any]:
    def duration_of_a_save() -> float:
        saver.save(path, 1)
        start = time.perf_counter()
        saver.save(path, 1)
        return time.perf_counter() - start

    def save_forever() -> None:
        for version in itertools.cycle(range(1, 10)):
            saver.save(path, version)

    rng = random.Random(0)
    duration = _in_child(duration_of_a_save)
    interrupted = 0
    for _ in range(rounds):
        child = _fork(save_forever)
        time.sleep(rng.uniform(0.2, 4) * duration)
        os.kill(child[0], signal.SIGKILL)
        _finish(child)
        assert 1 <= _in_child(lambda: saver.load(path)) < 10
        left = [name for name in file_names(path.parent) if name != path.name]
        interrupted += bool(left)
        for name in left:
            (path.parent / name).unlink()
    return {"interrupted": interrupted}


def _fill_the_disk(saver: Any, path: Path, sizes: list[int]) -> dict[str, Any]:
    def save_too_much(size: int) -> str | None:
        import resource  # POSIX alone has it

        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            saver.save(path, 2)
        except StorageError as error:
            return str(error)
        return None

    _in_child(lambda: saver.save(path, 1))
    messages = []
    for size in sizes:
        messages.append(_in_child(partial(save_too_much, size)))
        assert messages[-1] is not None, f"a limit of {size} bytes was not noticed"
        assert _in_child(lambda: saver.load(path)) == 1
        assert file_names(path.parent) == [path.name]
    return {"messages": messages}


def _main(mode: str, saver_name: str, path: str, *arguments: str) -> None:
    from tests.support.savers import SAVERS

    saver = SAVERS[saver_name]
    saver.prepare()
    if mode == "operations":
        result = _kill_at_every_operation(saver, Path(path))
    elif mode == "random":
        result = _kill_at_random(saver, Path(path), int(arguments[0]))
    else:
        result = _fill_the_disk(saver, Path(path), list(map(int, arguments)))
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    _main(*sys.argv[1:])
