"""The queue of trainings. Jobs are small scripts that write a run's files as a training does."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from src.runs import queue, read_run, runner
from src.runs.queue import FAILED, FINISHED, RUNNING, WAITING, Job, enqueue, jobs
from src.runs.queue_files import job_file, runner_lock
from src.utils.errors import UserError

ROOT = Path(__file__).parents[2]
# python training.py <folder of the run> [<file to wait for>] [<exit status>]
TRAINING = """
import json, os, socket, sys, time, psutil
from pathlib import Path
run, wait, status = Path(sys.argv[1]), *(sys.argv[2:] + ["", ""])[:2]
run.mkdir(parents=True, exist_ok=True)
me = psutil.Process()
info = {"state": "running", "host": socket.gethostname(), "pid": me.pid}
info |= {"pid_started": me.create_time(), "started": time.time()}
(run / "run.json").write_text(json.dumps(info))
with open(run / "starts", "a") as starts:
    starts.write(f"{time.time()}\\n")
print("at work", flush=True)
while wait and not Path(wait).exists():
    time.sleep(0.02)
(run / "run.json").write_text(json.dumps(info | {"state": "finished", "ended": time.time()}))
sys.exit(int(status or 0))
"""


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Logs whose queue nobody works through but the test, with jobs that are ``TRAINING``."""
    (tmp_path / "training.py").write_text(TRAINING)
    root = tmp_path / "logs"
    root.mkdir()
    monkeypatch.setattr(queue, "ensure_runner", lambda root: None)
    monkeypatch.setattr(runner, "command", lambda root, arguments: fake(tmp_path, arguments))
    monkeypatch.setattr(runner, "POLL_S", 0.02)
    yield root
    for job in jobs(root):
        if job.state == RUNNING and job.pid:
            os.killpg(job.pid, signal.SIGKILL)


def fake(folder: Path, arguments: list[str]) -> list[str]:
    return ["python", str(folder / "training.py"), *arguments]


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def state_of(root: Path, job: Job) -> str:
    return next(one.state for one in jobs(root) if one.id == job.id)


def add(root: Path, name: str, *more: str) -> Job:
    return enqueue(root, [str(root / name), *more])


def starts(root: Path, name: str) -> list[float]:
    file = root / name / "starts"
    return [float(line) for line in file.read_text().split()] if file.exists() else []


@pytest.fixture
def other_runner(logs: Path) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """Starts a runner in a process of its own."""
    code = (
        "import sys; from pathlib import Path; import src.runs.runner as runner;"
        "runner.POLL_S = 0.02;"
        "runner.command = lambda root, arguments: ['python', sys.argv[2], *arguments];"
        "runner.work(Path(sys.argv[1]))"
    )
    script = str(logs.parent / "training.py")
    started = []

    def start() -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen([sys.executable, "-c", code, str(logs), script], cwd=ROOT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_jobs_run_one_after_another_in_the_order_of_adding(logs: Path) -> None:
    made = [add(logs, name) for name in ("a", "b", "c")]
    assert [job.state for job in jobs(logs)] == [WAITING] * 3
    runner.work(logs)
    assert [job.id for job in jobs(logs)] == [job.id for job in made]
    assert [job.state for job in jobs(logs)] == [FINISHED] * 3
    assert [job.runs for job in jobs(logs)] == [["a"], ["b"], ["c"]]
    ends = [read_run(logs / name).info["ended"] for name in ("a", "b", "c")]
    assert ends[0] < starts(logs, "b")[0] < ends[1] < starts(logs, "c")[0]
    assert queue.output(logs, made[0].id) == "at work\n"
    assert not queue.has_runner(logs)


def test_as_many_run_at_once_as_there_are_slots(logs: Path) -> None:
    go = str(logs / "go")
    made = [add(logs, name, go) for name in ("a", "b", "c")]
    queue.set_slots(logs, 2)
    thread = threading.Thread(target=runner.work, args=(logs,))
    thread.start()
    until(lambda: bool(starts(logs, "a") and starts(logs, "b")))
    until(lambda: [job.state for job in jobs(logs)] == [RUNNING, RUNNING, WAITING])
    assert not starts(logs, "c")
    pids = {job.pid for job in jobs(logs)[:2]}
    assert {os.getsid(pid) for pid in pids if pid} == pids  # a session of its own each
    Path(go).touch()
    thread.join(60)
    assert state_of(logs, made[2]) == FINISHED


def test_a_killed_runner_stops_no_training_and_the_next_takes_charge(
    logs: Path, other_runner: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    go = str(logs / "go")
    first, second = add(logs, "a", go), add(logs, "b")
    process = other_runner()
    until(lambda: bool(starts(logs, "a")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state_of(logs, first) == RUNNING
    assert read_run(logs / "a").state == "running"
    assert not queue.has_runner(logs)
    assert queue.is_stranded(logs)
    thread = threading.Thread(target=runner.work, args=(logs,))
    thread.start()
    until(lambda: queue.has_runner(logs))
    assert not queue.is_stranded(logs)
    time.sleep(0.2)
    assert state_of(logs, second) == WAITING  # the slot is taken by the job that was found
    Path(go).touch()
    thread.join(60)
    assert [job.state for job in jobs(logs)] == [FINISHED, FINISHED]
    assert jobs(logs)[0].status is None
    assert len(starts(logs, "a")) == len(starts(logs, "b")) == 1


def test_what_ended_while_nobody_looked_is_told_by_its_runs(
    logs: Path, other_runner: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    go = str(logs / "go")
    job = add(logs, "a", go)
    process = other_runner()
    until(lambda: bool(starts(logs, "a")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    Path(go).touch()
    until(lambda: state_of(logs, job) == FINISHED)
    assert jobs(logs)[0].runs == ["a"]
    assert json.loads((logs / ".queue" / f"{job.id}.json").read_text())["state"] == RUNNING


def test_of_two_runners_one_works(
    logs: Path, other_runner: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    for name in ("a", "b", "c", "d"):
        add(logs, name)
    processes = [other_runner(), other_runner()]
    for process in processes:
        assert process.wait(60) == 0
    assert [len(starts(logs, name)) for name in ("a", "b", "c", "d")] == [1, 1, 1, 1]


def test_a_job_that_is_added_when_the_runner_has_looked_for_the_last_time_is_not_left(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(logs, "a")
    real, late = runner._step, []

    def step(*arguments: object) -> bool:
        goes_on = real(*arguments)  # type: ignore[arg-type]
        if not goes_on and not late:
            assert queue.has_runner(logs)  # so that whoever adds it starts none
            late.append(add(logs, "b"))
        return goes_on

    monkeypatch.setattr(runner, "_step", step)
    runner.work(logs)
    assert state_of(logs, late[0]) == FINISHED


def test_who_only_looks_for_a_runner_keeps_nobody_from_starting_one(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every window looks every few seconds, and holds the lock meanwhile."""
    add(logs, "a")
    started: list[object] = []
    monkeypatch.undo()
    monkeypatch.setattr(queue.subprocess, "Popen", lambda *args, **more: started.append(args))
    looks = threading.Event()

    def look() -> None:
        with runner_lock(logs):
            looks.set()
            time.sleep(0.1)

    threading.Thread(target=look).start()
    looks.wait()
    assert queue.has_runner(logs)  # so it seems
    queue.ensure_runner(logs)
    assert len(started) == 1
    with runner_lock(logs):
        queue.ensure_runner(logs)
    assert len(started) == 1


def test_what_is_forgotten_meanwhile_stays_so(logs: Path) -> None:
    """Between two looks of a runner a window may see the end of a job first, or cancel one, and forget it."""
    job = add(logs, "a")
    job_file(logs, job.id).unlink()
    assert runner._start(logs, job.id) is None
    runner._note_end(logs, Job(job.id, [], RUNNING, pid=1, pid_started=1.0), {})
    assert not jobs(logs)


def test_a_queue_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / ".queue").write_text("no folder")
    for act in (lambda: enqueue(tmp_path, []), lambda: queue.set_slots(tmp_path, 2)):
        with pytest.raises(UserError, match="queue cannot be written into"):
            act()
    assert jobs(tmp_path) == []


def test_a_process_that_is_not_on_record_never_begins(logs: Path) -> None:
    """A runner that dies between starting a process and writing it down leaves nothing behind that runs."""
    child = runner._hold(logs, add(logs, "a"))
    assert child.stdin is not None
    time.sleep(0.2)
    assert not starts(logs, "a")
    child.stdin.close()
    assert child.wait(60) != 0
    assert not starts(logs, "a")


def test_a_failed_job_says_why(logs: Path) -> None:
    add(logs, "bad", "", "3")
    runner.work(logs)
    job = jobs(logs)[0]
    assert (job.state, job.status, job.error) == (FAILED, 3, "at work")
    (logs / ".queue" / f"{job.id}.log").write_text("one\nerror: 'model' has no option 'x'\n\n")
    killed = Job("k", [], status=-9)
    (logs / ".queue" / "k.log").write_text("")
    assert queue.how_it_ended(logs, killed)[:2] == (FAILED, "it was killed by signal 9")
    silent = Job("k", [])
    assert queue.how_it_ended(logs, silent)[:2] == (FAILED, "it ended before it said anything")
    told = queue.how_it_ended(logs, job)
    assert told[1] == "'model' has no option 'x'"


def test_a_stopped_run_is_no_failure_of_its_job(logs: Path) -> None:
    """Also where nobody has seen its status."""
    (logs / "a").mkdir()
    info = {"state": "stopped", "pid": 7, "pid_started": 5.0, "host": os.uname().nodename}
    (logs / "a" / "run.json").write_text(json.dumps(info))
    assert queue.how_it_ended(logs, Job("k", [], pid=7, pid_started=5.5)) == (FINISHED, None, ["a"])
    assert queue.how_it_ended(logs, Job("k", [], pid=7, pid_started=9.0))[2] == []


def test_only_what_waits_is_cancelled_and_only_what_ended_is_forgotten(logs: Path) -> None:
    go = str(logs / "go")
    first, second = add(logs, "a", go), add(logs, "b")
    queue.cancel(logs, second.id)
    thread = threading.Thread(target=runner.work, args=(logs,))
    thread.start()
    until(lambda: bool(starts(logs, "a")))
    with pytest.raises(UserError, match="is running: only a waiting job"):
        queue.cancel(logs, first.id)
    with pytest.raises(UserError, match="is running: only a job that has ended"):
        queue.dismiss(logs, first.id)
    queue.dismiss(logs, second.id)
    Path(go).touch()
    thread.join(60)
    assert [(job.id, job.state) for job in jobs(logs)] == [(first.id, FINISHED)]
    assert not starts(logs, "b")
    queue.dismiss(logs, first.id)
    assert not jobs(logs)
    assert not list((logs / ".queue").glob(f"{first.id}*"))
    assert read_run(logs / "a").state == "finished"


@pytest.mark.parametrize("name", ["none", "../logs/x", "settings", "/etc/passwd"])
def test_what_is_no_job_is_refused(logs: Path, name: str) -> None:
    queue.set_slots(logs, 2)
    for act in (queue.cancel, queue.dismiss, queue.output):
        with pytest.raises(UserError, match="there is no job"):
            act(logs, name)


def told(**fields: object) -> str:
    return json.dumps({"id": "bad", "arguments": [], "state": RUNNING} | fields)


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", '{"id": "x"}', '{"id": "bad", "arguments": 3}', "[" * 10**5),
        *(told(pid=pid) for pid in (-4, 1.5, 10**400)),
        *(told(status="x"), told(error=[1]), told(started=1e300), told(pid_started=float("nan"))),
    ],
    ids=lambda content: content[-40:],
)
def test_a_damaged_job_is_a_failed_one_and_hides_no_other(logs: Path, content: str) -> None:
    good = add(logs, "a")
    (logs / ".queue" / "bad.json").write_text(content)
    assert {job.id: job.state for job in jobs(logs)} == {"bad": FAILED, good.id: WAITING}
    assert "bad.json" in (jobs(logs)[0].error or "")
    runner.work(logs)
    assert state_of(logs, good) == FINISHED


@pytest.mark.parametrize(
    "argument",
    [
        *("paths.log_dir=/tmp", "hydra.run.dir=x", "+hydra.searchpath=[file:///x]"),
        *("--config-dir=/x", "-cd=/x", "paths={log_dir: /x}", "hydra.run={dir: /x}", "name=../x"),
    ],
)
def test_a_job_cannot_say_where_its_runs_lie(logs: Path, argument: str) -> None:
    with pytest.raises(UserError, match="leave .* out"):
        enqueue(logs, ["seed=1", argument])
    assert not jobs(logs)


def test_the_command_says_where_the_logs_are_if_not_in_the_project(tmp_path: Path) -> None:
    assert queue.command(ROOT / "logs", ["seed=1"]) == ["python", "run_experiment.py", "seed=1"]
    assert queue.command(tmp_path, [])[2:] == [f"paths.log_dir={tmp_path}"]
    assert queue.command(tmp_path / "a b", [])[2:] == [f"paths.log_dir='{tmp_path}/a b'"]


def test_slots_are_kept_and_checked(logs: Path) -> None:
    assert queue.slots(logs) == 1
    queue.set_slots(logs, 3)
    assert queue.slots(logs) == 3
    for number in (0, 65):
        with pytest.raises(UserError, match="between 1 and 64"):
            queue.set_slots(logs, number)
    (logs / ".queue" / "settings.json").write_text('{"slots": "many"}')
    assert queue.slots(logs) == 1


def test_without_a_queue_there_are_no_jobs(tmp_path: Path) -> None:
    assert jobs(tmp_path / "nowhere") == []
    assert not queue.has_runner(tmp_path / "nowhere")
    assert not queue.is_stranded(tmp_path / "nowhere")


def test_the_real_command_is_run_although_whoever_asked_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from src.runs.queue import enqueue;"
        "enqueue(sys.argv[1], ['model=vea']); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    until(lambda: [job.state for job in jobs(tmp_path)] == [FAILED])
    assert jobs(tmp_path)[0].error == "'model' has no option 'vea'; nearest: 'vae'"
    until(lambda: not queue.has_runner(tmp_path))
    left = [
        p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in (p.info["cmdline"] or [])
    ]
    until(lambda: not any(p.is_running() for p in left))
