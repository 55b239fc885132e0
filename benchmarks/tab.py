"""What the Scaling tab costs: the data of its page, and until it is drawn, with 10, 100 and 1,000 runs.

    python benchmarks/tab.py                     # all three
    python benchmarks/tab.py --runs 1000 --loader false

Reports of 100 points with all that stands beside them are written as foretrain's callback writes them, and
TensorBoard is started on them in a process of its own. "First" is the first question after its start, when
every report is read, by the clock and in seconds of TensorBoard's processor time (on Linux), which other
programs do not lengthen; the others are medians of five. A page is opened cold, with an empty cache and
TensorBoard's own application around it, and warm, the second time; both end when the chart stands. "Of it
the tab" is what of the warm one passes from the start of the tab's frame until the chart is drawn, and
"TensorBoard" is TensorBoard's own page, warm, on its Scalars tab with nothing to draw. "Frame" is the tab's
own frame alone. Needs `foretrain[tensorboard]`, Playwright and Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import math
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))

import screenshots as demo

from foretrain.tensorboard.summary import replace_report

POINTS = 100
REPEATS = 5
SIZES = 40  # different model sizes
WAIT = 180.0
_DRAWN_AT = "performance.getEntriesByName('foretrain: drawn')[0].startTime"


def write_runs(logdir: Path, runs: int) -> None:
    """Writes reports of so many runs, one in twenty flagged as the demo's is."""
    noise = random.Random(0)
    sizes = [round(1e4 * 1000 ** (i / (SIZES - 1))) for i in range(SIZES)]
    for number in range(runs):
        params = demo.FLAGGED if number % 20 == 19 else sizes[number % SIZES]
        report = demo.demo_report(params, points=POINTS)
        shift = 1 + noise.gauss(0, 0.003)
        points = tuple((x, y * shift) for x, y in report.points)
        name = f"run{number:04d}/version_0"
        (logdir / name).mkdir(parents=True)
        replace_report(logdir / name, replace(report, run=name, points=points))


@contextlib.contextmanager
def tensorboard(logdir: Path, loader: str) -> Iterator[tuple[str, int]]:
    """TensorBoard in a process of its own; its address and the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", str(port)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command, "--load_fast", loader], **silent) as server:
        try:
            yield f"http://localhost:{port}/", server.pid
        finally:
            server.terminate()


def fetch(url: str) -> bytes:
    """The answer, unpacked."""
    asked = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(asked, timeout=WAIT) as answer:
        body: bytes = answer.read()
        return gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body


def seconds(do: Callable[[], Any]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun


def processor_seconds(pid: int) -> float:
    """What a process has used of processors; NaN where the system does not tell."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return math.nan


def wait_for_runs(url: str, runs: int) -> None:
    """Waits until TensorBoard has read every run, without asking the plugin."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError):
            if len(json.loads(fetch(f"{url}data/runs"))) >= runs:
                time.sleep(1.0)
                return
        time.sleep(0.2)
    raise TimeoutError(f"Expected TensorBoard to list {runs} runs within {WAIT:.0f} s, it did not.")


def measure(runs: int, loader: str, chromium: str) -> dict[str, float]:
    """The seconds of every question and page, and the size of the page's data in megabytes."""
    from playwright.sync_api import sync_playwright

    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder), runs)
        with tensorboard(Path(folder), loader) as (url, pid):
            wait_for_runs(url, runs)
            route = f"{url}data/plugin/foretrain/"
            used = processor_seconds(pid)
            found["runs, first"] = seconds(lambda: fetch(f"{route}runs"))
            found["of processor"] = processor_seconds(pid) - used
            listed = json.loads(fetch(f"{route}runs"))
            if len(listed["runs"]) != runs:
                raise RuntimeError(f"Expected {runs} runs in the tab, got {len(listed['runs'])}.")
            found["runs"] = statistics.median(seconds(lambda: fetch(f"{route}runs")) for _ in range(REPEATS))
            found["MB"] = len(fetch(f"{route}runs")) / 1e6
            along = f"{route}runs?along=flops"
            found["by FLOPs, first"] = seconds(lambda: fetch(along))
            flagged = ",".join(str(i) for i, run in enumerate(listed["runs"]) if run["flags"])
            asked = urllib.parse.urlencode({"version": listed["version"], "exclude": flagged})
            found["frontier, first"] = seconds(lambda: fetch(f"{route}frontier?{asked}"))
            found["budget"] = statistics.median(
                seconds(lambda n=n: fetch(f"{route}answer?{asked}&compute={n}e14"))
                for n in range(1, REPEATS + 1)
            )
            name = urllib.parse.quote(listed["runs"][0]["name"], safe="")
            found["one run"] = statistics.median(
                seconds(lambda: fetch(f"{route}run?run={name}")) for _ in range(REPEATS)
            )
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=demo.CHROMIUM_FLAGS)
                context = browser.new_context()
                for label in ("page, cold", "page, warm"):
                    page = context.new_page()
                    found[label] = seconds(lambda page=page: demo.open_tab(page, url))
                    frame = next(one for one in page.frames if "plugin_entry" in one.url)
                    drawn = 1e-3 * frame.evaluate(_DRAWN_AT)
                    page.close()
                found["of it the tab"] = drawn
                page = context.new_page()

                def start() -> None:
                    page.goto(f"{url}#scalars")
                    page.wait_for_selector("text=No scalar data was found")

                found["TensorBoard"] = seconds(start)
                page.close()
                page = context.new_page()
                frame = f"{url}data/plugin_entry.html?name=foretrain"

                def paint() -> None:
                    page.goto(frame)
                    page.wait_for_selector(demo.DRAWN, state="attached")

                found["frame"] = statistics.median(seconds(paint) for _ in range(REPEATS))
                browser.close()
    return found


def main() -> None:
    """Prints one line for each number of runs."""
    parser = argparse.ArgumentParser(description="Times the Scaling tab.")
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 36, 100, 1000])
    parser.add_argument(
        "--loader", choices=("true", "false"), default="true", help="TensorBoard's fast loader"
    )
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="path of Chromium")
    args = parser.parse_args()
    for index, runs in enumerate(args.runs):
        found = measure(runs, args.loader, args.chromium)
        if index == 0:
            print("seconds" + "".join(f"{name:>17}" for name in found), flush=True)
        print(f"{runs:7,}" + "".join(f"{value:17.3f}" for value in found.values()), flush=True)


if __name__ == "__main__":
    main()
