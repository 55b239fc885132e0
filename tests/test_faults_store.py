"""The store at the numbers asked of it: kills, cuts, flipped bits, odd lines, many writers."""

import itertools
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
import tracemalloc
import zlib
from functools import partial
from pathlib import Path

import pytest

from fault_ledger import effort, record
from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo
from foretrain.storage.records import MAX_LINE, decode_line, folder_name
from foretrain.store import ObservationStore, StudyReader

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

MOST_LINES = 4_000
"""Of one attempt in a test: below the number from which on readers thin what they keep."""


def value_at(step):
    """A loss that tells its step apart from every other."""
    return 2.0 + 1.0 / (step + 0.5)


def observation(step, run="run", value=None):
    return Observation(run, "val_loss", value_at(step) if value is None else value, Counts(10 * step, step))


def begun(root, run="run", **more):
    store = ObservationStore(root)
    store.begin(RunInfo(run=run, **more))
    return store


def written(root, count):
    """A record file: its folder, its path, its bytes, and its lines as (begin, end, step or None)."""
    store = begun(root)
    assert all(store.append(observation(step)) for step in range(1, count + 1))
    store.close()
    (path,) = store.study_dir.rglob("*.jsonl")
    content = path.read_bytes()
    lines, begin = [], 0
    for line in content.split(b"\n")[:-1]:
        kind, data = decode_line(line)[1:] if line else ("empty", None)
        step = data["counts"]["steps"] if kind == "observation" else None
        lines.append((begin, begin + len(line) + 1, step))
        begin += len(line) + 1
    assert [step for *_, step in lines if step is not None] == list(range(1, count + 1))
    return store.study_dir, path, content, lines


def read_values(study_dir, run="run"):
    """What is read back, as {step: value}, and the study."""
    study = StudyReader(study_dir).read()
    observations = study.runs[run].observations if run in study.runs else ()
    return {o.counts.steps: o.value for o in observations}, study


def wrong(values):
    """How many of the values read are not what was written at their steps."""
    return sum(value != value_at(step) for step, value in values.items())


def in_process(work):
    """Forks a process that does the work and ends with 0, or with 1 where that raises."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    return pid


# Row 1


def write_until_killed(root, first, out):
    """Appends, and tells each step once it is acknowledged."""
    store = begun(root, continues={"run": "run", "step": first - 1})
    for step in range(first, first + MOST_LINES):
        if store.append(observation(step)):
            os.write(out, b"%d\n" % step)
    time.sleep(60)


def test_killed_writers_lose_nothing_acknowledged(tmp_path):
    kills, acknowledged, chance = effort(12, 200), [], random.Random(1)
    for kill in range(kills):
        # Twenty of them train one run on, each from where the last was killed; then another run begins.
        root = tmp_path / str(kill // 20)
        told, first = acknowledged[-1] if kill % 20 else ([], 1)
        ours, theirs = os.pipe()
        pid = in_process(
            lambda root=root, first=first, theirs=theirs: write_until_killed(root, first, theirs)
        )
        os.close(theirs)
        said = os.read(ours, 100)  # It has begun.
        time.sleep(0.04 * chance.random())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while block := os.read(ours, 2**16):
            said += block
        os.close(ours)
        steps = [int(line) for line in said.split(b"\n")[:-1]]
        assert steps == list(range(first, first + len(steps))) and steps
        acknowledged.append((told + steps, steps[-1] + 1))
    lost, false, total = 0, 0, 0
    for kill in {*range(19, kills, 20), kills - 1}:
        told, _ = acknowledged[kill]
        values, study = read_values(ObservationStore(tmp_path / str(kill // 20)).study_dir)
        lost += len(set(told) - values.keys())
        false += wrong(values) + study.damaged
        total += len(told)
        assert len(values) <= len(told) + 1  # One more may have been written when the kill came.
    record(1, f"kill -9 at a random time, {total:,} lines acknowledged", kills, 200, lost=lost + false)
    assert (lost, false) == (0, 0)


# Row 2


def test_a_file_cut_at_every_byte_gives_its_whole_lines_and_counts_the_torn_one(tmp_path):
    study_dir, path, content, lines = written(tmp_path, effort(8, 100))
    line_ends = {0, *(end for _, end, _ in lines)}
    lost, false, miscounted = 0, 0, 0
    for size in range(len(content), -1, -1):
        os.truncate(path, size)
        values, study = read_values(study_dir)
        whole = {step for _, end, step in lines if step is not None and end <= size}
        lost += len(whole - values.keys())
        false += len(values.keys() - whole) + wrong(values)
        miscounted += (study.damaged, study.unfinished) != (0, int(size not in line_ends))
    cuts = len(content) + 1
    record(2, "file of 100 records cut at every byte", cuts, effort(1, 100 * 100), lost=lost + false)
    assert (lost, false, miscounted) == (0, 0, 0)


# Row 3


def spared(lines, first, last):
    """Steps of the lines that damage to the bytes [first, last) leaves whole, with the line end before."""
    return {step for begin, end, step in lines if step is not None and (last <= begin - 1 or first >= end)}


def test_every_flipped_bit_costs_only_the_lines_that_it_touches(tmp_path):
    study_dir, path, content, lines = written(tmp_path, effort(3, 20))
    count = sum(step is not None for *_, step in lines)
    lost, false, flips, most = 0, 0, 0, 0
    with path.open("r+b", buffering=0) as file:
        for at, byte in enumerate(content):
            safe = spared(lines, at, at + 1)
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ (1 << bit)]), at)
                values, study = read_values(study_dir)
                lost += len(safe - values.keys())
                false += wrong(values)
                most = max(most, count - len(values))
                flips += 1
                assert study.damaged <= 2 and study.unfinished <= 1
            os.pwrite(file.fileno(), bytes([byte]), at)
    record(3, "every bit of 20 records flipped", flips, effort(1, 20 * 100 * 8), lost=lost + false)
    assert (lost, false) == (0, 0) and most <= 2


def test_random_damage_costs_only_the_lines_that_it_touches(tmp_path):
    study_dir, path, content, lines = written(tmp_path, 40)
    chance, damages = random.Random(3), effort(150, 10_000)
    lost, false = 0, 0
    for _ in range(damages):
        at, size = chance.randrange(len(content)), chance.randrange(1, 900)
        patch = chance.choice([b"\0" * size, chance.randbytes(size), b"", b"\n" * size, content[:size]])
        cut = chance.choice([0, size])
        path.write_bytes(content[:at] + patch + content[at + cut :])
        values, _ = read_values(study_dir)
        lost += len(spared(lines, at, at + max(cut, 1)) - values.keys())
        false += wrong(values)
    record(3, "random damage: zeros, noise, cuts, copies", damages, 10_000, lost=lost + false)
    assert (lost, false) == (0, 0)


def test_a_zeroed_page_costs_only_the_lines_in_it(tmp_path):
    study_dir, path, content, lines = written(tmp_path, 200)
    lost, false, pages = 0, 0, range(0, len(content), 4096)
    for at in pages:
        path.write_bytes(content[:at] + bytes(len(content[at : at + 4096])) + content[at + 4096 :])
        values, _ = read_values(study_dir)
        lost += len(spared(lines, at, at + 4096) - values.keys())
        false += wrong(values)
    record(3, "each 4 KiB page of a file zeroed", len(pages), 5, lost=lost + false)
    assert (lost, false) == (0, 0)


# Row 4


def checked(body):
    """A line with the checksum that belongs to it: as far as that goes, it is one of ours."""
    return b'%s,"crc":"%08x"}' % (body, zlib.crc32(body))


def with_data(text):
    """A line of a valid checksum whose observation is the JSON text given."""
    return checked(b'{"seq":99,"kind":"observation","data":' + text)


def counted(value="1.0", samples="10", steps="1", more=""):
    counts = f'{{"samples":{samples},"steps":{steps}{more}}}'
    return f'{{"metric":"val_loss","value":{value},"counts":{counts}}}'.encode()


NUMBERS_NOT_TAKEN = ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 401, "1" + "0" * 200_000)
TEXTS_NOT_TAKEN = ('"NaN"', '"1.0"', "null", "true", "[1.0]", "{}", '"high"')
COUNTS_NOT_TAKEN = ("-1", "-1e-300", "true", '"7"', "[]", "null")
ODD_BYTES = (
    b"\0",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
    b"\r",
    b"\x1b[2J",
    b"\x00" * 700,
)
NOT_RECORDS = (b"{}", b"[]", b"null", b"1", b'"seq"', b"{", b"}", b"\t", b'{"seq":1}', b"}" * 300)


def odd_line(chance, valid):
    """A line that no reader may take, and that holds no line's end."""
    kind = chance.randrange(12)
    if kind == 0:
        return with_data(counted(value=chance.choice(NUMBERS_NOT_TAKEN + TEXTS_NOT_TAKEN)))
    if kind == 1:
        return with_data(counted(steps=chance.choice((*COUNTS_NOT_TAKEN, "1.5", "1e400"))))
    if kind == 2:
        return with_data(counted(samples=chance.choice(COUNTS_NOT_TAKEN)))
    if kind == 3:
        return with_data(counted(more=f',"epochs":{chance.choice(COUNTS_NOT_TAKEN[:-1])}'))
    if kind == 4:  # Of two equal names the later one counts, whatever the first said.
        return with_data(b'{"metric":"val_loss","value":1.0,' + counted(value="Infinity")[1:])
    if kind == 5:
        depth = chance.choice((100, 1_000, 10_000))
        opened, shut = chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
        return with_data(opened * depth + b"1" + shut * depth)
    if kind == 6:
        at = chance.randrange(len(valid))
        return valid[:at] + chance.choice(ODD_BYTES) + valid[at:]
    if kind == 7:  # The checksum is right, but the text is no UTF-8, or no ASCII.
        return with_data(
            counted().replace(b"val_loss", chance.choice((b"\xff", b"\xed\xa0\x80", "ä".encode())))
        )
    if kind == 8:
        at = chance.randrange(1, len(valid))
        return chance.choice((valid[:at], valid[at:], valid + valid[:at], valid[::-1]))
    if kind == 9:
        return chance.randbytes(chance.randrange(1, 2_000)).replace(b"\n", b" ")
    if kind == 10:
        return chance.choice((*NOT_RECORDS, *(checked(text) for text in NOT_RECORDS)))
    return checked(
        b'{"seq":%s,"kind":"observation","data":%s' % (chance.choice((b"-1", b"1.5", b'"a"')), counted())
    )


def test_odd_lines_are_skipped_and_counted(tmp_path):
    study_dir, path, content, _ = written(tmp_path, 100)
    good, chance = content.split(b"\n")[:-1], random.Random(4)
    count = effort(600, 10_000)
    odd = [odd_line(chance, good[-1]) for _ in range(count)]
    assert not any(b"\n" in line for line in odd)
    mixed = [*odd, *good[3:]]
    chance.shuffle(mixed)
    path.write_bytes(b"\n".join([*good[:3], *mixed, b""]))
    values, study = read_values(study_dir)
    lost, false = len(set(range(1, 101)) - values.keys()), wrong(values)
    false += len(values) - 100 if len(values) > 100 else 0
    record(4, "odd lines, most with a valid checksum", count, 10_000, lost=lost + false)
    assert (lost, false) == (0, 0)
    assert study.damaged == sum(study.reasons.values()) == count


@pytest.mark.parametrize(("text", "value"), [("-0.0", -0.0), ("-0", 0.0), ("5e-324", 5e-324), ("1E3", 1e3)])
def test_odd_numbers_that_are_numbers_are_taken_as_they_stand(tmp_path, text, value):
    study_dir, path, _, _ = written(tmp_path, 1)
    with path.open("ab") as file:
        file.write(with_data(counted(value=text, steps="2")) + b"\n")
    values, study = read_values(study_dir)
    assert values[2] == value and math.copysign(1, values[2]) == math.copysign(1, value)
    assert study.damaged == 0


def test_a_line_of_100_megabytes_takes_neither_memory_nor_its_neighbours(tmp_path):
    size = effort(20, 100) * 2**20
    study_dir, path, content, lines = written(tmp_path, 100)
    middle = lines[50][0]
    begin, filler, crc = b'{"seq":9,"kind":"observation","data":{"metric":"', b"x" * 2**20, 0
    with path.open("wb") as file:
        file.write(content[:middle])
        for part in itertools.chain([begin], itertools.repeat(filler, size // len(filler)), [counted()[11:]]):
            crc = zlib.crc32(part, crc)
            file.write(part)
        file.write(b',"crc":"%08x"}\n' % crc + content[middle:])
    tracemalloc.start()
    values, study = read_values(study_dir)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    lost = len(set(range(1, 101)) ^ values.keys()) + wrong(values)
    record(4, "a line of 100 MiB with a valid checksum", int(size >= 100 * 2**20), 1, lost=lost)
    assert lost == 0 and study.reasons == {"too long": 1}
    assert peak < 8 * MAX_LINE


# Row 8


@pytest.mark.parametrize("processes", [8, 32])
def test_writers_at_once_keep_apart(tmp_path, processes):
    rows = effort(3_200 // processes, 10_000)

    def write(process):
        # One run that all train at once, as requeued jobs do, and one of their own.
        stores = [begun(tmp_path, run) for run in ("shared", f"own{process}")]
        for step in range(1, rows // 2 + 1):
            for store in stores:
                row = observation(step, store.info.run, value=process + value_at(step))
                assert store.append(row), store.fault

    pids = [in_process(partial(write, process)) for process in range(processes)]
    stopped = sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)
    study_dir = ObservationStore(tmp_path).study_dir
    lost = 0
    for folder, mine in [("shared", None), *((f"own{process}", process) for process in range(processes))]:
        files = list((study_dir / folder_name(folder)).iterdir())
        assert len(files) == (processes if mine is None else 1)
        for path in files:
            lost += abs(rows // 2 - rows_of(path, mine))
    study = StudyReader(study_dir).read()
    record(
        8,
        f"{processes} processes, rows written at once",
        processes * rows,
        processes * 10_000,
        lost=lost,
        stopped=stopped,
    )
    assert (lost, stopped, study.damaged, study.unfinished) == (0, 0, 0, 0)
    assert set(study.runs) == {"shared", *(f"own{process}" for process in range(processes))}
    for name, run in study.runs.items():
        assert [o.counts.steps for o in run.observations] == list(range(1, rows // 2 + 1)), name


def rows_of(path, process):
    """How many rows of one process a file holds, each as it was written; the least, where any is not."""
    *lines, last = path.read_bytes().split(b"\n")
    assert last == b""
    found = []
    for line in lines:
        if line:
            _, kind, data = decode_line(line)
            if kind == "observation":
                found.append((data["counts"]["steps"], data["value"]))
    process = round(found[0][1] - value_at(1)) if process is None else process
    return sum(told == (step, process + value_at(step)) for step, told in enumerate(found, 1))


# Row 16


@pytest.mark.skipif(not effort(0, 1), reason="takes minutes: `make faults` runs it")
def test_a_million_observations_take_less_than_50_megabytes():
    program = Path(__file__).parent.parent / "benchmarks" / "memory.py"
    count = 1_000_000
    command = [sys.executable, str(program), "--observations", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    grown = float(re.findall(r"grew by: ([\d.]+) MB", done.stdout)[0]) if done.returncode == 0 else math.inf
    record(16, f"observations of a run: {grown:.0f} MB", count, count, stopped=int(done.returncode != 0))
    assert grown < 50.0, done.stdout
