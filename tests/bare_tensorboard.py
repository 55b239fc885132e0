"""Starts TensorBoard with the plugin where torch and Lightning are absent, and asks for every view.

    python tests/bare_tensorboard.py

Run by `make test-bare` in environments that hold foretrain, TensorBoard's oldest or newest supported release,
and nothing else. Ends with an error where anything is not as it should be.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlencode

sys.path.insert(0, str(Path(__file__).parent))

from foretrain.tensorboard.summary import replace_report
from tab_demo import demo

WAIT = 90.0  # seconds for a server on a busy machine
ABSENT = ("torch", "lightning", "pytorch_lightning", "tensorboardX")


def fetch(url: str) -> bytes:
    """What an address answers."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        body: bytes = answer.read()
        return body


def expect(holds: bool, what: str) -> None:
    """Ends the program unless something holds; not by `assert`, which can be switched off."""
    if not holds:
        raise SystemExit(f"Expected that {what}.")


def check(address: str) -> None:
    """Asks a running TensorBoard for the tab and all its views."""
    until = time.monotonic() + WAIT
    listed: dict[str, dict[str, object]] = {}
    while time.monotonic() < until and not listed.get("foretrain", {}).get("enabled"):
        time.sleep(0.3)
        with contextlib.suppress(OSError):
            listed = json.loads(fetch(f"{address}data/plugins_listing"))
    expect(bool(listed.get("foretrain", {}).get("enabled")), "TensorBoard lists the tab")
    entry = fetch(f"{address}data/plugin_entry.html?name=foretrain").decode()
    base = f"{address}data/plugin/foretrain"
    module = entry.split('import("./')[1].split('")')[0]
    expect(b"export async function render" in fetch(f"{base}/{module}"), "the page's module is served")
    runs: dict[str, object] = {"runs": []}
    while time.monotonic() < until and len(runs["runs"]) < len(demo.SIZES):  # type: ignore[arg-type]
        time.sleep(0.3)
        runs = json.loads(fetch(f"{base}/runs"))
    names = sorted(run["name"] for run in runs["runs"])  # type: ignore[attr-defined]
    expect(names == sorted(demo.demo_report(n).run for n in demo.SIZES), f"all runs are there, not {names}")
    asked = urlencode({"version": runs["version"], "exclude": ""})
    law = json.loads(fetch(f"{base}/law?{asked}"))
    expect(len(law["finals"]) == len(names), "the law across the runs has a point of each")
    frontier = json.loads(fetch(f"{base}/frontier?{asked}"))
    expect(bool(frontier["points"]), "the frontier has points")
    run = json.loads(fetch(f"{base}/run?run={quote(names[0], safe='')}"))
    expect(run["name"] == names[0] and bool(run["points"]), "a run is told in full")


def main() -> None:
    """Both of TensorBoard's ways to read."""
    for name in ABSENT:
        expect(importlib.util.find_spec(name) is None, f"{name} is not installed here")
    with tempfile.TemporaryDirectory() as folder:
        for params in demo.SIZES:
            report = demo.demo_report(params)
            (Path(folder) / report.run).mkdir(parents=True)
            replace_report(Path(folder) / report.run, report)
        for fast in ("true", "false"):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--port", str(port)]
            with subprocess.Popen([*command, "--load_fast", fast], stderr=subprocess.PIPE) as server:
                try:
                    check(f"http://localhost:{port}/")
                finally:
                    server.terminate()
                    _, said = server.communicate()
                    if b"foretrain:" in said:
                        raise SystemExit(f"Expected no complaint of foretrain, got {said.decode()}")
    versions = " ".join(f"{n} {importlib.metadata.version(n)}" for n in ("tensorboard", "protobuf", "numpy"))
    print(f"The tab opens with {versions}, Python {sys.version.split()[0]}, without torch and Lightning.")


if __name__ == "__main__":
    main()
