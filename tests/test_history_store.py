"""Is a run in the history once, whole, and whoever writes beside? On SQLite and on a real PostgreSQL."""

from __future__ import annotations

import glob
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from perfgate.cli import main
from perfgate.errors import HistoryError, SettingError
from perfgate.history import store, tables
from perfgate.history.entry import Entry, Point, of_run, seconds
from perfgate.history.place import locate, shown
from perfgate.history.store import History
from perfgate.model import CaseResult, Device, Hardware, MetricVerdict, Outcome, Run, Verdict
from perfgate.report import run_file

KEY = "cpu-pretended-2t"


def entry(number: int = 1, *points: Point, **changes) -> Entry:
    points = points or (Point("test_x.py::test_a", KEY, "wall_time", "s", number / 1000, allowed=1e-4),)
    made = Entry(
        f"identity {number}", "perfgate", 1e9 + number * 86400, f"{number:012x}", points, "host", {"torch": "2"}
    )
    return replace(made, **changes)


def find_postgres() -> Path | None:
    """Give the folder of PostgreSQL's programs: of the path, or where Debian keeps them."""
    found = [shutil.which("initdb"), *sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True)]
    return next((Path(each).parent for each in found if each), None)


@pytest.fixture(scope="session")
def postgres():
    """A server of our own on a socket in a folder; gives what begins the address of a database."""
    programs = find_postgres()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install -y postgresql")
    # The path of a socket may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user = {}
    if os.getuid() == 0:
        # PostgreSQL refuses to run as root.
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def run(*command: str) -> None:
        subprocess.run(
            command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, timeout=120, **user
        )

    data = str(folder / "data")
    try:
        run(str(programs / "initdb"), "-D", data, "-U", "perf", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        flags = f"-c listen_addresses= -c fsync=off -c unix_socket_directories={folder}"
        run(str(programs / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", flags, "start")
        try:
            yield f"host={folder}"
        finally:
            run(str(programs / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path) -> str:
    """A history that is not there yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'history.sqlite'}"
    return new_database(request.getfixturevalue("postgres"), request.node.name)


def new_database(server: str, test: str) -> str:
    """Make a database for a test; give its address."""
    name = f"test_{abs(hash(test)) % 10**9}"
    engine = sa.create_engine(f"postgresql+psycopg://perf@/postgres?{server}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"postgresql+psycopg://perf@/{name}?{server}"


def dump(address: str) -> list[tuple]:
    with History(address, create=False) as history:
        return [
            (name.case, name.key, name.metric, [(point.run.revision, point.value, point.allowed) for point in found])
            for name, found in history.everything()
        ]


def test_a_run_comes_back_in_the_order_of_time(address):
    with History(address) as history:
        assert [history.append(entry(number)) for number in (3, 1, 2)] == [True, True, True]
        [name] = history.find("test_x.py::test_a")
        points = history.points(name.id)
        assert history.last_s(1e9 + 4 * 86400) == 1e9 + 3 * 86400
        assert history.last_s(1e9 + 2.5 * 86400) == 1e9 + 2 * 86400
        assert [run.revision for run in history.later(1e9 + 1.5 * 86400)] == ["000000000002", "000000000003"]
    assert (name.case, name.key, name.metric, name.unit, name.better) == (
        "test_x.py::test_a", KEY, "wall_time", "s", "lower"
    )  # fmt: skip
    assert [point.value for point in points] == [0.001, 0.002, 0.003]
    assert [point.run.revision for point in points] == ["000000000001", "000000000002", "000000000003"]
    assert {(point.run.host, point.run.source, point.run.published, point.allowed) for point in points} == {
        ("host", "perfgate", False, 1e-4)
    }
    assert dump(address) == [
        ("test_x.py::test_a", KEY, "wall_time", [(f"{n:012x}", n / 1000, 1e-4) for n in (1, 2, 3)])
    ]


def test_a_run_is_added_once(address):
    with History(address) as history:
        assert history.append(entry())
        assert not history.append(entry())
    with History(address) as history:
        assert not history.append(entry())
    assert len(dump(address)[0][3]) == 1


def test_a_run_that_breaks_off_leaves_nothing(address):
    twice = Point("test_x.py::test_a", KEY, "wall_time", "s", 1.0)
    with History(address) as history:
        with pytest.raises(HistoryError) as error:
            history.append(entry(1, twice, twice))
        assert str(error.value).startswith(f"{shown(address)}: the run cannot be added: ")
        assert dump(address) == []
        assert history.find() == []
        assert history.append(entry(1, twice))


def test_a_name_that_is_no_text_is_told(address):
    name = "t\udcff.py::test_a"
    with History(address) as history:
        with pytest.raises(HistoryError) as error:
            history.append(entry(1, Point(name, KEY, "wall_time", "s", 1.0)))
        assert str(error.value) == (
            f"{shown(address)}: the run cannot be added: {name!r} is not UTF-8\nhint: give it another name"
        )
        with pytest.raises(HistoryError) as error:
            history.find(name)
        assert str(error.value).startswith(f"{shown(address)}: the history cannot be read: {name!r} is not UTF-8")
    assert dump(address) == []


def test_published_figures_are_nobodys_night(address):
    with History(address) as history:
        history.append(entry(1, published=True, started_s=0.0))
        assert history.last_s(2e9) == 0.0
        assert history.later(-1.0) == []
    assert dump(address) == []


def test_a_part_of_a_name_finds_cases_and_the_whole_name_only_its_own(address):
    names = ("t.py::test_a", "t.py::test_ab", "t.py::test_%_", "t.py::test_A")
    with History(address) as history:
        history.append(entry(1, *(Point(name, KEY, "wall_time", "s", 1.0) for name in names)))
        assert [name.case for name in history.find("test_a")] == ["t.py::test_a", "t.py::test_ab"]
        assert [name.case for name in history.find("t.py::test_a")] == ["t.py::test_a"]
        assert [name.case for name in history.find("%")] == ["t.py::test_%_"]
        assert history.find("nothing") == []
        assert len(history.find()) == 4


def test_the_command_adds_and_tells(address, tmp_path, capsys):
    metric = MetricVerdict("wall_time", "s", 1e-3, Verdict.NEW)
    run_file.write(run_of(metric), tmp_path / "run.json")
    arguments = ["history", "import", str(tmp_path / "run.json"), "--history", address]
    assert main(arguments) == 0
    assert main(arguments) == 0
    path = tmp_path / "run.json"
    assert capsys.readouterr().out == f"{path}: 1 figure added\n{path}: already there\n"
    assert main(["history", "--history", address]) == 0
    assert capsys.readouterr().out == "nothing new in the last night: 1 figure until 2026-11-20\n"
    assert main(["history", "test_a", "--history", address]) == 0
    assert "wall_time on cpu-pretended-2t, 1 run from 2026-11-20 to 2026-11-20" in capsys.readouterr().out


WRITER = """
import sys, time
from perfgate.history.entry import Entry, Point
from perfgate.history.store import History

address, own, start = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
time.sleep(max(0.0, start - time.time()))
points = [Point(f"t.py::test_{n}", "k", "wall_time", "s", 1.0 + own) for n in range(30)]
for number in range(12):
    # Each beside the other one's, and every third run is one that both have.
    identity = f"both {number}" if number % 3 == 0 else f"{own} {number}"
    with History(address) as history:
        history.append(Entry(identity, "perfgate", float(number), "c", tuple(points if own else points[::-1])))
"""


def test_two_processes_write_at_once(address):
    import time

    start = str(time.time() + 2)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, address, str(own), start],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")},
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in (0, 1)
    ]
    assert [(writer.communicate(timeout=120)[1], writer.returncode) for writer in writers] == [("", 0), ("", 0)]
    found = dump(address)
    assert len(found) == 30
    # 4 that both have, and 8 of each.
    assert {len(points) for *_, points in found} == {20}


MEETING = """

def test_meeting():
    # Both are here before one of them can come to its end, where it writes.
    import pathlib, time

    here = pathlib.Path(__file__).parent
    (here / "here").touch()
    deadline = time.monotonic() + 60
    while not all((here.parent / name / "here").exists() for name in ("one", "other")):
        assert time.monotonic() < deadline, "the other one did not come"
        time.sleep(0.01)
"""


def test_two_whole_runs_write_into_one_postgresql(project, postgres, request, tmp_path, capsys):
    """Two machines, each with its own clone, and nothing between them but the database."""
    address = new_database(postgres, request.node.name)
    project.cases("a")
    times = {"one": 1.000e-3, "other": 1.001e-3}
    project.figures("a", list(times.values()))
    project.store("a")
    with (project.path / "test_speed.py").open("a") as module:
        module.write(MEETING)
    command = [sys.executable, "-m", "pytest", "--benchmark-compare", f"--perf-history={address}"]
    runs = []
    for name, time_s in times.items():
        project.figures("a", [time_s])
        (project.path / "script.json").write_text(json.dumps(project.script))
        shutil.copytree(project.path, tmp_path / name)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        runs.append(subprocess.Popen(command, cwd=tmp_path / name, env=environment, **piped))
    said = [run.communicate(timeout=180)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(said)
    assert all("2 passed" in text and "1 unchanged on cpu-pretended-2t" in text for text in said), said
    assert main(["history", "test_a", "--json", "--history", address]) == 0
    found = {series["metric"]: series["values"] for series in json.loads(capsys.readouterr().out)}
    assert {metric: sorted(values) for metric, values in found.items()} == {
        "wall_time": sorted(times.values()), "memory": [2.0**20] * 2
    }  # fmt: skip
    assert main(["history", "--history", address]) == 0
    assert capsys.readouterr().out.startswith("nothing new in the last night: 2 figures until ")


def old(address: str) -> None:
    """Make a history as version 1 of the program did, with a run in it."""
    if address.startswith("sqlite"):
        Path(address.removeprefix("sqlite:///")).parent.mkdir()
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        tables.migrate(connection, address, tables.STEPS[:1])
        for statement in (
            "INSERT INTO perfgate_runs VALUES "
            "(1, 'identity 1', 'perfgate', FALSE, 1000086400.0, '000000000001', 'h', '{}')",
            f"INSERT INTO perfgate_series VALUES (1, 'test_x.py::test_a', '{KEY}', 'wall_time', 's', 'lower')",
            "INSERT INTO perfgate_points VALUES (1, 1, 0.001, NULL, NULL, 'unchanged')",
        ):
            connection.execute(sa.text(statement))
        if engine.dialect.name == "postgresql":
            for table in ("runs", "series"):
                connection.execute(sa.text(f"SELECT setval('perfgate_{table}_id_seq', 1)"))
        assert not tables.is_current(connection, address)
        assert "allowed" not in {column["name"] for column in sa.inspect(connection).get_columns("perfgate_points")}
    engine.dispose()


def test_a_history_of_version_1_is_brought_up_to_date(address):
    old(address)
    with History(address) as history:
        assert not history.append(entry(1))
        assert history.append(entry(2))
    assert dump(address) == [
        ("test_x.py::test_a", KEY, "wall_time", [("000000000001", 0.001, None), ("000000000002", 0.002, 1e-4)])
    ]


def test_reading_brings_it_up_to_date_too(address):
    old(address)
    assert dump(address) == [("test_x.py::test_a", KEY, "wall_time", [("000000000001", 0.001, None)])]


def test_migrated_tables_are_those_that_the_program_knows(address):
    with History(address) as history, history._engine.connect() as connection:
        for table in tables.metadata.tables.values():
            there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
            assert there == {column.name for column in table.columns}
        assert connection.execute(sa.select(tables.version.c.version)).all() == [(len(tables.STEPS),)]


def test_a_migration_that_fails_changes_nothing(address, monkeypatch):
    old(address)
    monkeypatch.setattr(tables, "STEPS", (*tables.STEPS, ("CREATE TABLE half (id INTEGER)", "NONSENSE")))
    with pytest.raises(HistoryError, match=": the history cannot be opened: "):
        History(address)
    monkeypatch.undo()
    engine = sa.create_engine(address)
    with engine.connect() as connection:
        assert not sa.inspect(connection).has_table("half")
        assert connection.execute(sa.select(tables.version.c.version)).scalar_one() == 1
    engine.dispose()
    assert len(dump(address)) == 1


@pytest.mark.parametrize("create", [True, False])
def test_a_history_of_a_newer_program_is_refused(address, create):
    with History(address) as history:
        history._write(lambda connection: connection.execute(tables.version.update().values(version=9)))
    with pytest.raises(HistoryError) as error:
        History(address, create=create)
    assert str(error.value) == (
        f"{shown(address)}: the history has version 9 of its tables\n"
        "This perfgate reads versions up to 2.\n"
        "hint: install a newer version: pip install --upgrade perfgate"
    )


def test_a_history_that_is_not_there_is_not_made_by_reading(tmp_path):
    path = tmp_path / "none.sqlite"
    with pytest.raises(HistoryError) as error:
        History(f"sqlite:///{path}", create=False)
    assert str(error.value) == (
        f"{path}: there is no history\nhint: runs are added with: pytest --benchmark-compare --perf-history"
    )
    assert not path.exists()


HINT = "hint: is it reachable, and a history of perfgate? The default is a file: --perf-history=perf-history.sqlite"


def test_a_file_of_something_else_is_named_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes, and nothing but them.\n" * 20)
    with pytest.raises(HistoryError) as error:
        History(f"sqlite:///{path}")
    assert str(error.value) == f"{path}: the history cannot be opened: file is not a database\n{HINT}"
    assert path.read_text().startswith("These are my notes")


def test_a_name_of_a_file_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with History(locate("a?b=1%20#c.sqlite", tmp_path, "--perf-history")) as history:
        assert history.append(entry())
    assert Path("a?b=1%20#c.sqlite").is_file()
    assert len(dump(locate("a?b=1%20#c.sqlite", tmp_path, "--perf-history"))) == 1


def test_an_old_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    address = f"sqlite:///{tmp_path / 'deep' / 'history.sqlite'}"
    old(address)
    engine = store._engine

    def read_only(address: str) -> sa.Engine:
        """Open it as a user without the permission would; a test may run as root."""
        made = engine(address)
        sa.event.listen(made, "connect", lambda connection, record: connection.execute("PRAGMA query_only=ON"))
        return made

    monkeypatch.setattr(store, "_engine", read_only)
    monkeypatch.setattr(store.time, "sleep", lambda seconds: None)
    with pytest.raises(HistoryError) as error:
        History(address, create=False)
    assert str(error.value) == (
        f"{shown(address)}: the history cannot be opened: attempt to write a readonly database\n{HINT}"
    )


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    path = tmp_path / "taken" / "history.sqlite"
    with pytest.raises(HistoryError) as error:
        History(f"sqlite:///{path}")
    assert str(error.value) == f"{path}: the history cannot be opened: File exists"


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path):
    with pytest.raises(HistoryError) as error:
        History(f"postgresql+psycopg://perf:secret@/history?host={tmp_path}")
    text = str(error.value)
    assert text.startswith(f"postgresql+psycopg://perf:***@/history?host={tmp_path}: the history cannot be opened: ")
    assert text.endswith(HINT)
    assert "secret" not in text


def test_a_port_that_is_no_number_is_named(tmp_path):
    with pytest.raises(HistoryError) as error:
        History("postgresql+psycopg://perf@host:port/history")
    assert str(error.value).startswith("postgresql+psycopg://perf@host:port/history: the history cannot be opened: ")


def test_a_file_is_locked_by_another_program_for_a_while(tmp_path):
    address = f"sqlite:///{tmp_path / 'history.sqlite'}"
    with History(address) as history:
        other = sqlite3.connect(tmp_path / "history.sqlite", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        import threading

        timer = threading.Timer(0.5, lambda: other.execute("COMMIT"))
        timer.start()
        assert history.append(entry())
        timer.join()
        other.close()
    assert len(dump(address)) == 1


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("", "sqlite:////root/perf-history.sqlite"),
        ("h.db", "sqlite:////root/h.db"),
        ("/abs/h.db", "sqlite:////abs/h.db"),
        ("sqlite:///h.db", "sqlite:////root/h.db"),
        ("sqlite:////abs/h.db", "sqlite:////abs/h.db"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgres://u:p@h:1/d?x=y", "postgresql+psycopg://u:p@h:1/d?x=y"),
    ],
)
def test_where_a_history_is(value, address, monkeypatch):
    monkeypatch.delenv("PERFGATE_HISTORY", raising=False)
    assert locate(value, Path("/root"), "--perf-history") == address


def test_a_variable_names_the_history_where_nothing_else_does(monkeypatch):
    monkeypatch.setenv("PERFGATE_HISTORY", "postgres://u:p@h/d")
    assert locate("", Path("/root"), "--perf-history") == "postgresql+psycopg://u:p@h/d"
    assert locate("h.db", Path("/root"), "--perf-history") == "sqlite:////root/h.db"
    monkeypatch.setenv("PERFGATE_HISTORY", "mysql://u@h/d")
    with pytest.raises(SettingError, match=r"^\$PERFGATE_HISTORY: "):
        locate("", Path("/root"), "--perf-history")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "mysql://u:p@h/d",
            "--perf-history: a history is not kept in 'mysql'\n"
            "hint: a path, sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE",
        ),
        ("sqlite://", "--perf-history: 'sqlite://' names no file\nhint: sqlite:///PATH, or the path alone"),
        ("sqlite:///", "--perf-history: 'sqlite:///' names no file\nhint: sqlite:///PATH, or the path alone"),
        ("sqlite://h.db", "--perf-history: 'sqlite://h.db' names no file\nhint: sqlite:///PATH, or the path alone"),
        ("/", "--perf-history: '/' is a folder\nhint: name a file: --perf-history=perf-history.sqlite"),
    ],
)
def test_where_no_history_can_be(value, message):
    with pytest.raises(SettingError) as error:
        locate(value, Path("/root"), "--perf-history")
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("missing", "value", "message"),
    [
        (
            "sqlalchemy",
            "h.db",
            "--perf-history: sqlalchemy is not installed, and it is what reaches the history\n"
            "hint: pip install 'perfgate[history]'",
        ),
        (
            "psycopg",
            "postgres://u@h/d",
            "--perf-history: psycopg is not installed, and it is what reaches the history\n"
            "hint: pip install 'perfgate[history,postgres]'",
        ),
    ],
)
def test_what_is_not_installed_is_named(missing, value, message, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else real(name, *rest))
    with pytest.raises(SettingError) as error:
        locate(value, Path("/root"), "--perf-history")
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("postgresql+psycopg://u:p:w@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql+psycopg://u:p/w@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql+psycopg://u:p@w@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql+psycopg://u:p?w@h:1/d", "postgresql+psycopg://u:***@h:1/d"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+psycopg://h/d?user=u&password=p", "postgresql+psycopg://h/d?user=u&password=***"),
        ("postgresql+psycopg://h/d?sslpassword=p&a=b", "postgresql+psycopg://h/d?sslpassword=***&a=b"),
        ("sqlite:////abs/h.db", "/abs/h.db"),
    ],
)
def test_no_password_is_shown(address, text):
    assert shown(address) == text


def run_of(*metrics: MetricVerdict, outcome: Outcome = Outcome.PASSED, **changes) -> Run:
    result = CaseResult("t.py::test_a", KEY, Verdict.UNCHANGED, outcome, metrics=metrics)
    hardware = Hardware((Device("cpu", "Pretended", KEY),), {"cpu": {"torch": "2"}})
    made = Run(hardware, (result,), {"torch": "2"}, "2026-11-20T02:00:00+00:00", 1.5, commit="0123456789ab")
    return replace(made, **changes)


TIME = MetricVerdict(
    "wall_time", "s", 1.2e-3, Verdict.REGRESSED, baseline=1e-3, limit=0.05, values=(1.1e-3, 1.3e-3, 1.2e-3)
)


def test_what_is_kept_of_a_run():
    made = of_run(run_of(TIME), "a")
    assert made.points == (
        Point("t.py::test_a", KEY, "wall_time", "s", 1.2e-3, "lower", 1.1e-3, 1.3e-3, "regressed", 5e-5),
    )
    assert (made.source, made.started_s, made.revision, made.host) == ("perfgate", 1795140000.0, "0123456789ab", "a")
    assert made.software == {"torch": "2"}


def test_what_is_no_figure_is_not_kept():
    assert of_run(run_of(replace(TIME, value=float("nan")))).points == ()
    assert of_run(run_of(TIME, outcome=Outcome.OUT_OF_MEMORY)).points == ()
    absolute = replace(TIME, relative=False, limit=512.0, values=(1.0,))
    [point] = of_run(run_of(absolute)).points
    assert (point.allowed, point.low, point.high) == (512.0, None, None)
    [point] = of_run(run_of(replace(TIME, baseline=None, limit=None))).points
    assert point.allowed is None


def test_a_run_is_the_same_one_after_it_was_stored(tmp_path):
    run_file.write(run_of(TIME), tmp_path / "run.json")
    assert of_run(run_file.read(tmp_path / "run.json")).identity == of_run(run_of(TIME), "a").identity
    others = [
        run_of(replace(TIME, value=1.3e-3)),
        run_of(TIME, commit="other"),
        run_of(TIME, started="2026-11-20T02:00:01+00:00"),
        run_of(TIME, duration_s=1.6),
        run_of(TIME, hardware=Hardware((Device("cpu", "Pretended", "other"),))),
    ]
    assert len({of_run(run).identity for run in [run_of(TIME), *others]}) == 6


def test_a_time_without_an_offset_is_utc():
    assert seconds("2026-11-20T02:00:00") == seconds("2026-11-20T03:00:00+01:00") == 1795140000.0


def test_a_time_that_cannot_be_shown_again_is_none():
    assert seconds("1970-01-01T00:00:00") == 0
    assert seconds("9999-12-31T23:59:59") < 253402300800
    for text in ("0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59", "9999-12-31T23:59:59-00:01"):
        with pytest.raises(ValueError, match=r"is not between the years 1970 and 9999$"):
            seconds(text)
