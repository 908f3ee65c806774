"""Cases in another process: their records, crashes, timeouts, and what is killed with the process."""

import os
import signal
import subprocess
import sys
import time

import pytest
import synthetic

from harness.core.spec import Effort, OperationSpec
from harness.processes import protocol
from harness.processes.case_worker import CaseWorker
from harness.processes.owned_process import OwnedProcess

pytest_plugins = ["installed_attentions"]

EFFORT = Effort(min_samples=2, max_samples=2, seconds=0.0, warmup_calls=1, warmup_seconds=0.0)
SPEC = OperationSpec(attention="sdpa", seq_len=64)
READY = "print('ready', flush=True)"


@pytest.fixture
def new_worker():
    workers = []

    def make(timeout=60.0, shared_by="attention"):
        workers.append(CaseWorker(timeout, shared_by))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


@pytest.fixture
def replace_process(monkeypatch):
    """Makes the worker start other code instead of its own module."""

    def replace(code):
        monkeypatch.setattr(
            protocol,
            "OwnedProcess",
            lambda command, *rest, **options: OwnedProcess([sys.executable, "-c", code], *rest, **options),
        )

    return replace


def test_cases_share_a_process_until_one_crashes(new_worker):
    worker = new_worker()
    records = [worker.run(SPEC, EFFORT), worker.run(SPEC.model_copy(update={"seq_len": 32}), EFFORT)]
    assert [(record.status, record.spec.seq_len) for record in records] == [("ok", 64), ("ok", 32)]
    first = worker._client.process
    crashed = worker.run(SPEC.model_copy(update={"attention": "nope"}), EFFORT)
    assert crashed.status == "crashed"
    assert first.poll() is not None
    assert worker.run(SPEC, EFFORT).status == "ok"
    assert worker._client.process is not first


def test_an_isolated_case_has_a_fresh_process_that_ends_with_it(new_worker, monkeypatch):
    started = []

    def start(*arguments, **options):
        started.append(OwnedProcess(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(protocol, "OwnedProcess", start)
    worker = new_worker(shared_by="case")
    for seq_len in (64, 32):
        spec = SPEC.model_copy(update={"seq_len": seq_len})
        record = worker.run(spec, EFFORT)
        assert (record.status, record.spec) == ("ok", spec)
        assert len(record.timing.wall_seconds) == 2
        assert started[-1].poll() is not None
    assert len(started) == 2


@pytest.mark.alone
def test_a_case_that_takes_too_long_is_stopped(new_worker):
    began = time.monotonic()
    record = new_worker(timeout=0.001).run(SPEC, EFFORT)
    assert (record.status, record.reasons) == ("timeout", ["stopped after 0.001 s"])
    assert time.monotonic() - began < 30


@pytest.mark.alone
@pytest.mark.parametrize("shared_by", ["run", "attention", "case"])
def test_the_timeout_begins_when_the_process_is_ready(replace_process, new_worker, shared_by):
    replace_process(f"import time; time.sleep(1); {READY}; time.sleep(60)")
    began = time.monotonic()
    record = new_worker(0.5, shared_by).run(SPEC, EFFORT)
    assert (record.status, record.reasons) == ("timeout", ["stopped after 0.5 s"])
    assert 1.4 < time.monotonic() - began < 15


@pytest.mark.parametrize("before", [f"{READY}; input()", "pass"], ids=["in a case", "at the start"])
def test_death_by_a_signal_is_reported_with_the_last_lines_of_standard_error(replace_process, new_worker, before):
    replace_process(
        f"import os, sys; {before}; print('on fire', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)"
    )
    record = new_worker().run(SPEC, EFFORT)
    assert record.status == "crashed"
    assert record.reasons == ["its process was killed by SIGSEGV", "on fire"]


def test_an_exit_without_a_record_is_reported_with_its_code(replace_process, new_worker):
    replace_process("import sys; print('\\n'.join(map(str, range(9))), file=sys.stderr); sys.exit(3)")
    record = new_worker().run(SPEC, EFFORT)
    assert record.status == "crashed"
    assert record.reasons == ["its process ended with code 3 and no record", "4", "5", "6", "7", "8"]


def test_lines_before_the_ready_line_are_skipped(replace_process, new_worker):
    replace_process(f"print('a start-up file says hello', flush=True); {READY}; input(); import sys; sys.exit(3)")
    assert new_worker().run(SPEC, EFFORT).reasons == ["its process ended with code 3 and no record"]


@pytest.mark.parametrize("printed", ["pass", "print('hello', flush=True)"], ids=["silent", "chatty"])
def test_a_process_that_is_never_ready_is_a_timeout(replace_process, new_worker, monkeypatch, printed):
    monkeypatch.setattr(protocol, "START_SECONDS", 0.3)
    replace_process(f"import time\nwhile True:\n    {printed}; time.sleep(0.01)")
    record = new_worker().run(SPEC, EFFORT)
    assert (record.status, record.reasons) == ("timeout", ["its process was not ready after 0.3 s"])


def test_an_error_at_the_start_is_the_reason(replace_process, new_worker):
    replace_process("import nonexistent_module")
    first, *_, last = new_worker().run(SPEC, EFFORT).reasons
    assert first == "its process ended with code 1 and no record"
    assert last == "ModuleNotFoundError: No module named 'nonexistent_module'"


def test_an_endless_line_is_a_crash(replace_process, new_worker, monkeypatch):
    monkeypatch.setattr(protocol, "LINE_LIMIT", 2**20)
    replace_process(f"import sys; {READY}\nwhile True: sys.stdout.write('x' * 65536)")
    (reason,) = new_worker().run(SPEC, EFFORT).reasons
    assert reason.endswith("bytes to the pipe of its answers, in one line")


def test_standard_error_does_not_fill_the_disk(replace_process, new_worker, monkeypatch):
    monkeypatch.setattr(protocol, "STDERR_LIMIT", 2**20)
    monkeypatch.setattr(protocol, "POLL_SECONDS", 0.01)
    replace_process(
        f"import sys, time; {READY}; input()\n"
        "for _ in range(40): sys.stderr.write('x' * 2**18); sys.stderr.flush(); time.sleep(0.02)\n"
        "sys.stderr.write('\\nlast words'); sys.exit(3)"
    )
    worker, on_disk, limit = new_worker(), [], protocol.ProcessClient._limit_stderr

    def limit_and_look(client):
        limit(client)
        on_disk.append(os.fstat(client._stderr.fileno()).st_blocks * 512)

    monkeypatch.setattr(protocol.ProcessClient, "_limit_stderr", limit_and_look)
    reasons = worker.run(SPEC, EFFORT).reasons
    assert (reasons[0], reasons[-1]) == ("its process ended with code 3 and no record", "last words")
    assert max(on_disk) <= 2**20


@pytest.mark.parametrize("new_session", [False, True], ids=["its process group", "a session of its own"])
def test_child_processes_of_a_stopped_case_are_killed_with_it(replace_process, new_worker, tmp_path, new_session):
    pid_file = tmp_path / "pid"
    replace_process(
        "import subprocess, sys, time\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"child = subprocess.Popen(command, start_new_session={new_session})\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid)); {READY}; time.sleep(60)"
    )
    assert new_worker(timeout=0.5).run(SPEC, EFFORT).status == "timeout"
    assert _ends(int(pid_file.read_text()))


def test_child_processes_of_a_dead_process_are_killed(replace_process, new_worker, tmp_path):
    pid_file = tmp_path / "pid"
    replace_process(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid)); sys.exit(3)"
    )
    assert new_worker().run(SPEC, EFFORT).status == "crashed"
    assert _ends(int(pid_file.read_text()))


def _ends(pid):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _is_running(pid):
        time.sleep(0.05)
    return not _is_running(pid)


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


ENDING_PLUGIN = """
import os, signal
import torch
from torch import nn
from harness.core.plugin import AttentionPlugin

class Ending(AttentionPlugin):
    name, summary, source = "ending", "ends its process", "tests"

    def default_knobs(self, spec):
        return {"how": ""}

    def build(self, spec):
        exec(self.knobs(spec)["how"], globals())
        return nn.Identity()

    def oracle(self, *arguments):
        raise AssertionError
"""
CHILD_KEEPS_PIPE = "\nif os.fork():\n    os._exit(0)\nimport time; time.sleep(20)"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("os._exit(0)", "its process ended with code 0 and no record"),
        (CHILD_KEEPS_PIPE, "its process ended with code 0 and no record"),
        ("os.abort()", "its process was killed by SIGABRT"),
        ("os.kill(os.getpid(), 40)", "its process was killed by signal 40"),
        ("raise KeyboardInterrupt", "its process was killed by SIGINT"),
        ("raise SystemExit(0)", "raised SystemExit, which a plugin must not do"),
        ("import pytest; pytest.skip('slow')", "called pytest.skip, which a plugin must not do"),
    ],
)
def test_a_plugin_that_ends_its_process_has_a_crashed_record(new_worker, install, how, words):
    install("ending_plugin", ENDING_PLUGIN, ending="Ending")
    record = new_worker().run(OperationSpec(attention="ending", seq_len=16, knobs={"how": how}), EFFORT)
    assert record.status == "crashed"
    assert words in record.reasons[0]


HOSTILE_PLUGIN = """
import os, sys, threading, time
import torch
from torch import nn
from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.plugin import AttentionPlugin

done = set()

class Hostile(AttentionPlugin):
    name, summary, source = "hostile", "does once in a process what its knob says", "tests"

    def default_knobs(self, spec):
        return {"code": ""}

    def kernel(self, spec):
        return str(os.getpid())

    def build(self, spec):
        code = self.knobs(spec)["code"]
        if code not in done:
            done.add(code)
            exec(code, globals())
        class Attention(nn.Module):
            def forward(_, q, k, v, mask):
                return softmax_attention(q, k, v, mask, torch.arange(q.shape[2]))
        return Attention()

    def oracle(self, spec, q, k, v, mask, rows):
        return softmax_attention(q, k, v, mask, rows)

def answer_pipes():
    for fd in range(3, 50):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
                yield fd
        except OSError:
            pass
"""


def hostile(code, seq_len=16):
    return OperationSpec(attention="hostile", seq_len=seq_len, heads=1, knobs={"code": code})


def test_no_case_is_lost_whatever_an_attention_does_to_its_process(new_worker, install, tmp_path):
    install("hostile_plugin", HOSTILE_PLUGIN, hostile="Hostile")
    worker = new_worker()

    def run(code, seq_len):
        record = worker.run(hostile(code, seq_len), EFFORT)
        assert record.spec.seq_len == seq_len
        return record

    # Megabytes of output, a closed standard output, and a copy of the process that comes back from the plugin, too.
    chatty = "print('x' * 3_000_000); print('y' * 3_000_000, file=sys.stderr); os.fork(); sys.stdout.close()"
    assert run(chatty, 16).status == "ok"
    first = run("", 17)
    # Lines in the pipe of the answers: the case is the only one without a record.
    written = run("for fd in answer_pipes(): os.write(fd, b'{}\\n{}\\n')", 21)
    assert written.status == "crashed"
    assert "did not answer with a record" in written.reasons[0]
    after = run("", 22)
    assert after.status == "ok"
    assert after.kernel != first.kernel


FORKED = """
if os.fork() == 0:
    os.setsid()
    open("{pid}", "w").write(str(os.getpid()))
    while True: {then}
while not os.path.exists("{pid}") or not os.path.getsize("{pid}"): time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("then", "timeout"), [("time.sleep(60)", 60.0), ("pass", 4.5)], ids=["idle", "at work for longer than the timeout"]
)
def test_a_case_that_leaves_a_process_has_its_record_with_a_finding_and_the_process_is_killed(
    new_worker, install, tmp_path, then, timeout
):
    install("hostile_plugin", HOSTILE_PLUGIN, hostile="Hostile")
    worker = new_worker(timeout)
    assert worker.run(hostile(""), EFFORT).status == "ok"  # what takes long the first time is imported
    pid = tmp_path / "pid"
    record = worker.run(hostile(FORKED.format(pid=pid, then=then)), EFFORT)
    assert (record.status, record.reasons) == ("ok", [])
    assert [finding for finding in record.findings if finding.startswith("processes were left running: ")], (
        record.findings
    )
    assert _ends(int(pid.read_text()))


def test_a_case_that_writes_and_ends_its_process_after_its_record_keeps_it(replace_process, new_worker):
    record = synthetic.record(SPEC).model_dump_json()
    answers = [("[1, {}]", "something else than its record was in the pipe of its answers")]
    answers += [("", "its process gave its record and then no answer: its process ended with code 3 and no record")]
    for second, finding in answers:
        replace_process(f"import sys; {READY}; input(); print({record!r}, flush=True); print({second!r}); sys.exit(3)")
        if not second:
            replace_process(f"import sys; {READY}; input(); print({record!r}, flush=True); sys.exit(3)")
        kept = new_worker().run(SPEC, EFFORT)
        assert (kept.status, kept.findings) == ("ok", [finding])


@pytest.mark.alone
def test_a_process_that_closes_its_pipes_and_goes_on_is_not_waited_for(replace_process, new_worker):
    replace_process(f"import os, time; {READY}; input(); os.closerange(0, 2); time.sleep(60)")
    began = time.monotonic()
    record = new_worker(timeout=3.0).run(SPEC, EFFORT)
    assert record.reasons == ["its process closed the pipes of its requests and answers, and was killed"]
    assert time.monotonic() - began < 20


@pytest.fixture
def client():
    clients = []

    def new(code):
        clients.append(protocol.ProcessClient([sys.executable, "-c", f"import sys, time; {READY}; input()\n{code}"]))
        clients[-1].send({})
        return clients[-1]

    yield new
    for one in clients:
        one.close()


def test_an_answer_that_arrived_in_time_is_read_even_if_this_process_was_late(client):
    late = client("print('x' * 3_000_000, flush=True); time.sleep(60)")
    time.sleep(0.5)
    assert len(late.receive(0.0)) == 3_000_000  # larger than the pipe, so that it is still being written


@pytest.mark.alone
def test_an_answer_that_arrives_byte_by_byte_ends_with_the_timeout(client):
    slow = client("while True: sys.stdout.write('x'); sys.stdout.flush(); time.sleep(0.01)")
    began = time.monotonic()
    with pytest.raises(protocol.AnswerTimeout, match=r"stopped after 0\.2 s"):
        slow.receive(0.2)
    assert time.monotonic() - began < 10


LEAVING = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("orphan", "w").write(str(os.getpid()))
        time.sleep(120)
    os._exit(0)
os.wait()
while not os.path.exists("orphan") or not os.path.getsize("orphan"): time.sleep(0.01)
open("child", "w").write(str(os.getpid()))
print("ready", flush=True)
time.sleep(120)
"""
PARENT = f"""
import sys, time
from harness.processes.protocol import ProcessClient
client = ProcessClient([sys.executable, "-c", {LEAVING!r}])
client.send({{}})
print("sent", flush=True)
time.sleep(120)
"""


def test_when_the_run_is_killed_its_processes_and_what_they_started_are_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"sent\n"
        parent.kill()
    for name in ("child", "orphan"):
        assert _ends(int((tmp_path / name).read_text())), name


DYING = """
import os, subprocess, sys, time
from harness.processes import owned_process
child = owned_process.OwnedProcess([sys.executable, "-c", "import time; time.sleep(120)"], stdout=subprocess.DEVNULL)
time.sleep(2)  # for the watcher to begin to wait
print(child.pid, flush=True)
owned_process._owner._watcher.stdin.close()  # a process that is killed closes its files, and ends some time later
time.sleep(float(sys.argv[1]))
os._exit(0)
"""


@pytest.mark.parametrize("seconds", [0.001, 0.01, 0.05])
def test_the_watcher_goes_on_when_its_parent_ends_after_its_files_were_closed(seconds):
    child = subprocess.check_output([sys.executable, "-c", DYING, str(seconds)])
    assert _ends(int(child))


def test_an_answer_that_is_not_a_record_is_a_crash(replace_process, new_worker):
    replace_process(f"{READY}; input(); print('{{}}', flush=True); input()")
    record = new_worker().run(SPEC, EFFORT)
    assert record.status == "crashed"
    assert "its process did not answer with a record" in record.reasons[0]


def test_the_standard_error_of_a_dead_process_is_cut(replace_process, new_worker):
    replace_process("import sys; print('x' * 5_000_000, file=sys.stderr); sys.exit(3)")
    first, last = new_worker().run(SPEC, EFFORT).reasons
    assert first == "its process ended with code 3 and no record"
    assert last.endswith("more characters)")


def test_closing_ends_the_process(new_worker):
    worker = new_worker()
    worker.run(SPEC, EFFORT)
    pid = worker._client.process.pid
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_signals_have_their_usual_names():
    assert protocol.describe_exit(-signal.SIGKILL) == "its process was killed by SIGKILL"


def test_what_a_handler_prints_does_not_disturb_its_answers():
    code = """
from harness.processes.protocol import serve

def load_handler():
    print("loading")
    def answer(line):
        print("working")
        return line.strip().upper()
    return answer

serve(load_handler)
"""
    client = protocol.ProcessClient([sys.executable, "-c", code])
    try:
        assert [client.request({"a": letter}, 20.0) for letter in "bc"] == [b'{"A": "B"}', b'{"A": "C"}']
    finally:
        client.close()
