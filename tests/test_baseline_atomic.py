"""Does a killed, starved or concurrent writer ever cost a stored baseline?"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import resource
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from perfgate.baseline import BaselineStore
from perfgate.baseline import files as files_module
from perfgate.errors import BaselineError
from perfgate.model import Baseline, Outcome, StoredMetric

KEY, MODULE = "nvidia-h200", "perf_tests/test_x"
FILE = "baselines/nvidia-h200/perf_tests/test_x.json"
WRITE_HINT = "hint: check the free space and the permissions of its folder, or name another with --perf-baselines=DIR"


def make(case: str, value: float = 1.5) -> Baseline:
    metrics = tuple(StoredMetric(f"metric_{n}", "s", "lower", (value, value + 1e-3)) for n in range(8))
    return Baseline(case, Outcome.PASSED, metrics, {}, {"torch": "2.13.0"}, "1c2d3e4", "2026-01-31")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BaselineStore:
    monkeypatch.chdir(tmp_path)
    return BaselineStore(tmp_path / "baselines")


def start(body: Callable[[], object]) -> int:
    """Run a function in a child process; its exit status is 0 when it returns."""
    if (child := os.fork()) == 0:
        status = 1
        try:
            body()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def wait_for(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for_growth(path: Path, size: int) -> int:
    deadline = time.monotonic() + 30
    while (now := path.stat().st_size) == size:
        assert time.monotonic() < deadline, "the writer does not write"
        time.sleep(0.0005)
    return now


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_killed_at_random_moments(store: BaselineStore, tmp_path: Path) -> None:
    """Every case of which the writer said that it is stored is there, whenever the writer dies."""
    dice = random.Random(20260131)
    old = {f"old_{number}": make(f"old_{number}") for number in range(30)}
    path = store.merge(KEY, MODULE, old)
    diary = tmp_path / "diary"
    diary.touch()
    started = time.perf_counter()
    store.merge(KEY, MODULE, {"old_0": make("old_0")})
    one_merge_s = time.perf_counter() - started

    def write(round_: int) -> None:
        descriptor = os.open(diary, os.O_WRONLY | os.O_APPEND)
        for number in range(10_000):
            case = f"new_{round_}_{number % 5}"
            store.merge(KEY, MODULE, {case: make(case, number)})
            os.write(descriptor, f"{case} {number}\n".encode())

    for round_ in range(40):
        size = diary.stat().st_size
        child = start(lambda round_=round_: write(round_))
        for _ in range(dice.randrange(3)):
            size = wait_for_growth(diary, size)
        time.sleep(dice.uniform(0.0, 1.5 * one_merge_s))
        os.kill(child, signal.SIGKILL)
        assert wait_for(child) == -signal.SIGKILL
        loaded = store.load(KEY, MODULE)
        assert loaded.damages == ()
        assert {name: loaded.cases[name] for name in old} == old
        said = {line.split()[0]: float(line.split()[1]) for line in diary.read_text().splitlines()}
        for case, number in said.items():
            # The write after the last one that was noted may have been finished, too.
            assert loaded.cases[case].metrics[0].values[0] in (number, number + 5)
    assert len(diary.read_text().splitlines()) >= 20
    store.merge(KEY, MODULE, {"last": make("last")})
    assert files_below(store.root) == [path.name]


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_killed_at_each_step(store: BaselineStore, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = store.merge(KEY, MODULE, {"a": make("a", 1.0)})
    before = path.read_bytes()

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write() -> None:
        if step == "write":
            # The buffer is full after some kilobytes: the file is written in part when its end is.
            real = os.fdopen

            def half(descriptor: int, mode: str) -> object:
                if mode == "wb":
                    os.write(descriptor, before[:100])
                    die()
                return real(descriptor, mode)

            files_module.os.fdopen = half  # type: ignore[assignment]
        elif step == "open":
            real_open = os.open

            def open_(target: Path, flags: int, *mode: int) -> int:
                descriptor = real_open(target, flags, *mode)
                if flags & os.O_CREAT:
                    die()
                return descriptor

            files_module.os.open = open_  # type: ignore[assignment]
        else:
            setattr(files_module.os, step, die)
        store.merge(KEY, MODULE, {"a": make("a", 2.0)})

    assert wait_for(start(write)) == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(files_below(store.root)) == 2
    store.merge(KEY, MODULE, {"b": make("b")})
    assert store.load(KEY, MODULE).cases == {"a": make("a", 1.0), "b": make("b")}
    assert files_below(store.root) == [path.name]


def test_writers_at_once_do_not_lose_each_others_cases(store: BaselineStore) -> None:
    def write(writer: int) -> None:
        for number in range(25):
            case = f"test_{writer}[{number}]"
            store.merge(KEY, MODULE, {case: make(case)})

    children = [start(lambda writer=writer: write(writer)) for writer in range(3)]
    assert [wait_for(child) for child in children] == [0, 0, 0]
    names = {f"test_{writer}[{number}]" for writer in range(3) for number in range(25)}
    assert store.load(KEY, MODULE).cases.keys() == names


def test_reader_never_sees_half_a_file(store: BaselineStore) -> None:
    store.merge(KEY, MODULE, {"a": make("a")})

    def write() -> None:
        for number in range(60):
            store.merge(KEY, MODULE, {f"test_{number}": make(f"test_{number}")})

    child = start(write)
    seen = []
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        loaded = store.load(KEY, MODULE)
        assert loaded.damages == ()
        seen.append(len(loaded.cases))
    assert seen == sorted(seen)
    assert len(store.load(KEY, MODULE).cases) == 61


def test_no_lock_file_is_left_or_needed(store: BaselineStore) -> None:
    with files_module.locked(store.root, 1.0):
        assert files_below(store.root) == []


def test_writer_that_never_finishes(store: BaselineStore) -> None:
    store.root.mkdir()
    descriptor = os.open(store.root, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(BaselineError) as caught:
            BaselineStore(store.root, lock_timeout_s=0.05).merge(KEY, MODULE, {"a": make("a")})
    finally:
        os.close(descriptor)
    assert str(caught.value) == (
        "baselines: another process has been writing baselines for more than 0.05 s\n"
        "Two writers at once would lose each other's results, so the new ones are not stored.\n"
        "hint: find it with: fuser -v baselines"
    )
    store.merge(KEY, MODULE, {"a": make("a")})


def no_locks_on_folders(*_: object) -> None:
    raise OSError(errno.EBADF, "Bad file descriptor")


@pytest.fixture(params=["no fcntl", "network file system"])
def lock_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no fcntl":
        monkeypatch.setattr(files_module, "fcntl", None)
    else:
        monkeypatch.setattr(files_module.fcntl, "flock", no_locks_on_folders)


@pytest.mark.usefixtures("lock_files")
def test_lock_file_where_folders_cannot_be_locked(store: BaselineStore) -> None:
    def write(writer: int) -> None:
        for number in range(8):
            case = f"test_{writer}[{number}]"
            store.merge(KEY, MODULE, {case: make(case)})

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.load(KEY, MODULE).cases) == 24
    assert files_below(store.root) == ["test_x.json"]


@pytest.mark.usefixtures("lock_files")
def test_lock_file_of_a_dead_writer(store: BaselineStore) -> None:
    store.root.mkdir()
    (store.root / ".perfgate.lock").touch()
    with pytest.raises(BaselineError) as caught:
        BaselineStore(store.root, lock_timeout_s=0.05).merge(KEY, MODULE, {"a": make("a")})
    assert str(caught.value) == (
        "baselines: another process has been writing baselines for more than 0.05 s\n"
        "Two writers at once would lose each other's results, so the new ones are not stored.\n"
        "hint: delete baselines/.perfgate.lock if no other perfgate is running"
    )


def test_full_disk(store: BaselineStore, tmp_path: Path) -> None:
    """The limit on the size of files stands for a full disk: the system stops the write in its middle."""
    path = store.merge(KEY, MODULE, {"a": make("a")})
    before = path.read_bytes()
    message = tmp_path / "message"

    def write() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, resource.RLIM_INFINITY))
        try:
            store.merge(KEY, MODULE, {"b": make("b")})
        except BaselineError as error:
            message.write_text(str(error))

    assert wait_for(start(write)) == 0
    assert message.read_text() == (
        f"{FILE}: cannot be written: File too large\n"
        "The new results are not stored; what was stored before is unchanged.\n" + WRITE_HINT
    )
    assert path.read_bytes() == before
    assert files_below(store.root) == [path.name]


@pytest.mark.parametrize(
    ("step", "code"), [("open", errno.EROFS), ("fsync", errno.EIO), ("replace", errno.EACCES), ("fsync", errno.ENOSPC)]
)
def test_write_that_the_system_refuses(
    store: BaselineStore, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    path = store.merge(KEY, MODULE, {"a": make("a")})
    before = path.read_bytes()
    real = getattr(os, step)

    def refuse(*arguments: object) -> object:
        if step == "open" and not arguments[1] & os.O_CREAT:  # type: ignore[operator]
            return real(*arguments)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(files_module.os, step, refuse)
        with pytest.raises(BaselineError) as caught:
            store.merge(KEY, MODULE, {"b": make("b")})
    assert str(caught.value) == (
        f"{FILE}: cannot be written: {os.strerror(code)}\n"
        "The new results are not stored; what was stored before is unchanged.\n" + WRITE_HINT
    )
    assert path.read_bytes() == before
    assert files_below(store.root) == [path.name]
    store.merge(KEY, MODULE, {"b": make("b")})


def test_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a child that is not root, in a folder that it may reach."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o777)
        monkeypatch.chdir(place)
        store = BaselineStore(place / "baselines")
        path = store.merge(KEY, MODULE, {"a": make("a")})
        messages = place / "messages"
        messages.touch()
        messages.chmod(0o666)

        def try_it() -> None:
            if os.geteuid() == 0:
                os.setuid(65534)
            with pytest.raises(BaselineError) as caught:
                store.merge(KEY, MODULE, {"b": make("b")})
            unreadable = store.load(KEY, "perf_tests/locked")
            messages.write_text(f"{caught.value}\n{unreadable.damages[0]}")

        locked = store.merge(KEY, "perf_tests/locked", {"a": make("a")})
        locked.chmod(0)
        path.parent.chmod(0o555)
        try:
            assert wait_for(start(try_it)) == 0
        finally:
            path.parent.chmod(0o755)
        assert messages.read_text() == (
            f"{FILE}: cannot be written: Permission denied\n"
            "The new results are not stored; what was stored before is unchanged.\n"
            f"{WRITE_HINT}\n"
            "baselines/nvidia-h200/perf_tests/locked.json: cannot be read: Permission denied"
        )
        assert store.load(KEY, MODULE).cases == {"a": make("a")}


def test_root_that_is_a_file(store: BaselineStore) -> None:
    store.root.write_text("")
    with pytest.raises(BaselineError) as caught:
        store.merge(KEY, MODULE, {"a": make("a")})
    assert str(caught.value) == (
        "baselines: the folder of baselines cannot be written: File exists\n"
        "The new results are not stored.\n"
        "hint: check its permissions, or name another folder with --perf-baselines=DIR"
    )


def test_file_in_place_of_a_folder(store: BaselineStore) -> None:
    (store.root / KEY).mkdir(parents=True)
    (store.root / KEY / "perf_tests").write_text("")
    with pytest.raises(BaselineError) as caught:
        store.merge(KEY, MODULE, {"a": make("a")})
    assert str(caught.value) == (
        f"{FILE}: cannot be read: Not a directory\n"
        "1 new result is not stored: writing the file would lose what is in it.\n"
        "hint: check what lies there, and the permissions of the file and its folders"
    )


def test_folder_that_cannot_be_synced_is_no_failure(store: BaselineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def refuse(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(files_module.os, "fsync", refuse)
    store.merge(KEY, MODULE, {"a": make("a")})
    assert store.load(KEY, MODULE).cases == {"a": make("a")}


def test_file_and_folder_reach_the_disk_in_order(store: BaselineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        steps.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).suffix)
        real_sync(descriptor)

    def replace(old: Path, new: Path) -> None:
        steps.append("replace")
        real_replace(old, new)

    store.merge(KEY, MODULE, {"a": make("a")})
    monkeypatch.setattr(files_module.os, "fsync", sync)
    monkeypatch.setattr(files_module.os, "replace", replace)
    store.merge(KEY, MODULE, {"b": make("b")})
    assert steps == ["sync .tmp", "replace", "sync "]
