"""The Scaling tab's server side, through TensorBoard's own application, both loaders and real event files."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("tensorboard")
pytest.importorskip("torch")

from tensorboard.backend import application
from tensorboard.plugins import base_plugin
from torch.utils.tensorboard import SummaryWriter
from werkzeug.test import Client

from foretrain.report import JointReport, Report
from foretrain.tensorboard import summary
from foretrain.tensorboard.loader import ScalingLoader
from foretrain.tensorboard.metadata import report_tag
from foretrain.tensorboard.once import Once
from foretrain.tensorboard.plugin import FOLDER, ScalingPlugin
from foretrain.tensorboard.rows import Entry
from tab_demo import demo

HOSTILE = [
    "__proto__",
    "constructor",
    "<img src=x onerror=alert(1)>",
    "a'b\"c&#?",
    "%2e%2e%2f",
    "ünï 日本",
    "n" * 200,
]
BASE = "/data/plugin/foretrain"
FILES = ("index.js", "chart.js", "style.css")


def write(directory: Path, *texts: str, metric: str = "val_loss") -> None:
    """Writes raw payloads as a report is written, one a step."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    writer = SummaryWriter(str(directory))
    for step, text in enumerate(texts):
        filled = Summary()
        summary._fill(filled, metric, text.encode())
        writer._get_file_writer().add_summary(filled, step)
    writer.close()


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("runs")
    demo.write_demo(root)
    for i, name in enumerate(HOSTILE):
        write(root / name, demo.demo_report(20_000 + i, study="hostile").to_json(), metric="val_acc")
    write(root / "damaged", "{", metric="val_loss")
    write(root / "later", '{"version": 99}', metric="val_loss")
    # What a loader may thin out: only the last of these counts.
    old = Report(run="old", metric="other", axis="steps", step=0).to_json()
    write(root / "often", *[old] * 150, demo.demo_report(55_000).to_json(), metric="often")
    plain = SummaryWriter(str(root / "plain"))
    plain.add_scalar("val_loss", 1.0, 1)
    plain.close()
    return root


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast", "python"])
def client(request: pytest.FixtureRequest, logdir: Path) -> Client:
    from tensorboard import program

    server = program.TensorBoard()
    server.configure(argv=["tensorboard", "--logdir", str(logdir), "--load_fast", request.param])
    provider, multiplexer = server._make_data_provider()
    app = application.TensorBoardWSGIApp(
        server.flags, server.plugin_loaders, provider, server.assets_zip_provider, multiplexer
    )
    client = Client(app)
    client.held = server  # its loader would otherwise end
    runs = 6 + len(HOSTILE) + 4
    until = time.monotonic() + 60
    while time.monotonic() < until and len(client.get("/data/runs").json or ()) < runs:
        time.sleep(0.1)
    while time.monotonic() < until and len(get(client, "/runs?metric=val_loss")["unreadable"]) < 2:
        time.sleep(0.1)
    return client


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The runs of every law that is asked for; the law itself is quick and canned."""
    asked: list[list[str]] = []

    def joint_report(curves: Any, *, at_data: float | None = None) -> JointReport:
        asked.append([curve.run for curve in curves])
        return JointReport("ok", runs=tuple(asked[-1]), at_data=5e4)

    monkeypatch.setattr("foretrain.analysis.joint_report", joint_report)
    return asked


def get(client: Client, path: str) -> Any:
    answer = client.get(BASE + path)
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "application/json"

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(answer.data, parse_constant=refuse)


def test_the_tab_is_listed_and_enabled(client: Client) -> None:
    listed = client.get("/data/plugins_listing").json["foretrain"]
    assert listed["enabled"] is True
    assert listed["tab_name"] == "Scaling"
    assert listed["loading_mechanism"]["type"] == "IFRAME"


def test_the_runs_of_the_commonest_metric_come_first(client: Client) -> None:
    view = get(client, "/runs")
    assert view["metric"] == "val_loss"
    assert view["metrics"] == ["often", "val_acc", "val_loss"]
    assert view["data_label"] == "training examples seen"
    assert [run["params"] for run in view["runs"]] == [float(n) for n in demo.SIZES]
    assert [bool(run["flags"]) for run in view["runs"]] == [n == demo.FLAGGED for n in demo.SIZES]
    assert view["default_run"] == demo.demo_report(demo.SIZES[-1]).run
    assert get(client, "/runs") == view  # the same order and version each time


def test_bad_reports_are_listed_with_the_reason(client: Client) -> None:
    unreadable = dict(get(client, "/runs")["unreadable"])
    assert set(unreadable) == {"damaged", "later"}
    assert "something else" in unreadable["damaged"]
    assert "version 99" in unreadable["later"]


def test_hostile_names_are_only_names(client: Client) -> None:
    view = get(client, "/runs?metric=val_acc")
    assert sorted(run["name"] for run in view["runs"]) == sorted(HOSTILE)
    assert view["study"] == "hostile"


def test_the_newest_report_of_a_long_series_counts(client: Client) -> None:
    view = get(client, "/runs?metric=often")
    assert [run["params"] for run in view["runs"]] == [55_000.0]


def test_unknown_choices_fall_back(client: Client) -> None:
    view = get(client, "/runs?metric=nope&study=nope&axis=%3Cscript%3E")
    assert (view["metric"], view["study"], view["axis"]) == ("val_loss", "bytes", "samples")


def test_the_law_is_fitted_once_for_what_is_asked(client: Client, fits: list[list[str]]) -> None:
    runs = get(client, "/runs")
    flagged = [i for i, run in enumerate(runs["runs"]) if run["flags"]]
    path = f"/law?version={runs['version']}&exclude={flagged[0]}"
    law = get(client, path)
    assert law == get(client, path)
    assert len(fits) == 1
    names = [run["name"] for run in runs["runs"]]
    assert fits[0] == [name for i, name in enumerate(names) if i not in flagged]
    assert law["left_out"] == [[names[flagged[0]], "flagged"]]
    get(client, f"/law?version={runs['version']}&exclude=")
    assert fits[1] == names


def test_readers_who_ask_together_share_one_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def joint_report(curves: Any, *, at_data: float | None = None) -> JointReport:
        asked.append(len(curves))
        begun.set()
        assert go_on.wait(30)
        return JointReport("ok")

    monkeypatch.setattr("foretrain.analysis.joint_report", joint_report)
    told = {name: dataclasses.replace(demo.demo_report(20_000), run=name) for name in ("a", "b")}
    data = FakeData({name: report.to_json() for name, report in told.items()})
    plugin = ScalingPlugin(base_plugin.TBContext(data_provider=data))
    ask = functools.partial(plugin.law_impl, None, "", metric=None, study=None, axis=None)
    version = runs_of(plugin)["version"]
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, version=version)
        assert begun.wait(30)
        second, other = pool.submit(ask, version=version), pool.submit(ask, version=version, exclude=[0])
        assert runs_of(plugin)["version"] == version  # the runs can be listed meanwhile
        go_on.set()
        assert first.result(30) == second.result(30)
        other.result(30)
    assert sorted(asked) == [1, 2]


@pytest.mark.parametrize("exclude", ["-1", "99999", "1e3", "x", ",,", "²", "9" * 5000])
def test_odd_positions_are_ignored(client: Client, fits: list[list[str]], exclude: str) -> None:
    runs = get(client, "/runs?metric=often")
    law = get(client, f"/law?metric=often&version={runs['version']}&exclude={exclude}")
    assert law["left_out"] == []


def test_positions_of_another_listing_are_refused(client: Client, fits: list[list[str]]) -> None:
    assert get(client, "/law?version=0123456789abcdef&exclude=0") == {"outdated": True}
    assert fits == []


def test_a_law_that_fails_leaves_the_runs_on_the_page(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(curves: Any, *, at_data: float | None = None) -> JointReport:
        raise RuntimeError("secret /path")

    monkeypatch.setattr("foretrain.analysis.joint_report", fail)
    version = get(client, "/runs")["version"]
    law = get(client, f"/law?version={version}&exclude=0,1")
    assert law["status"] == "failed"
    assert "secret" not in json.dumps(law)
    assert len(law["finals"]) == 6
    assert "could not be fitted" in caplog.text


@pytest.mark.parametrize(("name", "kind"), [("index.js", "text/javascript"), ("style.css", "text/css")])
def test_the_pages_files(client: Client, name: str, kind: str) -> None:
    answer = client.get(f"{BASE}{FOLDER}/{name}")
    assert answer.status_code == 200
    assert answer.mimetype == kind
    assert len(answer.data) > 1000
    assert answer.cache_control.max_age == 365 * 24 * 3600, "its address changes when it does"
    head = client.head(f"{BASE}{FOLDER}/{name}")
    assert (head.status_code, head.data) == (200, b"")


def test_tensorboard_opens_the_tab_with_the_files_of_this_version(client: Client) -> None:
    entry = client.get("/data/plugin_entry.html?name=foretrain").text
    assert f'import(".{FOLDER}/index.js")' in entry
    assert re.fullmatch("/[0-9a-f]{12}", FOLDER)
    assert client.get("/data/plugins_listing").json["foretrain"]["enabled"]


@pytest.mark.parametrize(
    "path",
    [
        "/../plugin.py",
        "/index.js",
        "/static/index.js",
        f"{FOLDER}/../plugin.py",
        f"{FOLDER}/%2e%2e/plugin.py",
        f"{FOLDER}/..%2f..%2fplugin.py",
        f"{FOLDER}/../../../../../../../../etc/passwd",
        f"{FOLDER}/",
        "/000000000000/index.js",
        "/%2e%2e/plugin.py",
        "/..%2fplugin.py",
        f"{FOLDER}/index.js/../../loader.py",
        "//etc/passwd",
        "/..;/plugin.py",
        "/....//plugin.py",
        "/%252e%252e%252fplugin.py",
        "/%c0%ae%c0%ae/plugin.py",
        "/..\\plugin.py",
        "/..%5cplugin.py",
        "/static/../plugin.py",
        "/file:///etc/passwd",
        "/http://evil.example/",
        "/C:/windows/win.ini",
        f"{FOLDER}/index.js%00.css",
        "/",
    ],
)
def test_there_is_no_way_to_another_file(client: Client, path: str) -> None:
    assert client.get(BASE + path).status_code in (301, 308, 404)


def test_every_module_that_the_page_imports_is_served_and_no_other(client: Client) -> None:
    wanted, seen = {"index.js"}, set[str]()
    while wanted - seen:
        name = min(wanted - seen)
        seen.add(name)
        answer = client.get(f"{BASE}{FOLDER}/{name}")
        assert (answer.status_code, answer.mimetype) == (200, "text/javascript"), name
        wanted |= set(re.findall(r"^(?:import|export) [^;]*'\./([\w.]+)';", answer.text, re.MULTILINE))
    static = Path(summary.__file__).parent / "static"
    assert seen == {path.name for path in static.glob("*.js")}
    # All are named in the first one, so that the browser asks for them at once.
    first = client.get(f"{BASE}{FOLDER}/index.js").text
    assert set(re.findall(r"'\./([\w.]+)';", first)) == seen - {"index.js"}


def test_a_runs_own_route_tells_what_was_projected_for_its_end(client: Client) -> None:
    name = demo.demo_report(demo.SIZES[0]).run
    view = get(client, f"/run?run={name}")
    told = demo.end_forecasts(demo.demo_report(demo.SIZES[0]))
    assert [row["step"] for row in view["forecasts"]] == [step for step, _ in told]
    ends = [scalars["scaling/projected_end_upper"] for _, scalars in told]
    assert [row["upper"] for row in view["forecasts"]] == pytest.approx(ends, rel=1e-5)
    assert len(view["points"]) == 22
    for odd in ("", "?run=", "?run=nope", "?run=..%2f..%2fetc", "?run=__proto__"):
        assert get(client, f"/run{odd}") == {"gone": True}


def test_the_sizes_are_compared_at_the_data_that_is_asked(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def joint_report(curves: Any, *, at_data: float | None = None) -> JointReport:
        asked.append(at_data)
        return JointReport("ok", runs=tuple(curve.run for curve in curves), at_data=at_data or 5e4)

    monkeypatch.setattr("foretrain.analysis.joint_report", joint_report)
    runs = get(client, "/runs")
    labels = [
        get(client, f"/law?version={runs['version']}&exclude=1,3{data}")["at_label"]
        for data in ("", "&data=2e4", "&data=-1", "&data=2e4")
    ]
    assert labels == [f"{x} training examples seen" for x in ("50k", "20k", "50k", "20k")]
    assert asked == [None, 2e4], "each is fitted once"


def test_the_frontier_is_worked_out_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from foretrain.tensorboard import plugin as module

    asked: list[frozenset[str]] = []
    find = module.study_frontier

    def counted(entries: Any, **given: Any) -> Any:
        asked.append(given["exclude"])
        return find(entries, **given)

    monkeypatch.setattr(module, "study_frontier", counted)
    runs = get(client, "/runs")
    path = f"frontier?version={runs['version']}&exclude=4"
    view = get(client, "/" + path)
    assert view["status"] == "ok"
    assert get(client, "/" + path) == view
    best = get(client, f"/answer?version={runs['version']}&exclude=4&compute=1e13")["best"]
    assert best["compute"] == 1e13
    assert asked == [frozenset({demo.demo_report(demo.FLAGGED).run})]
    odd = "&compute=nan&data=x&params=-1&error=1e999&exclude=%00"
    assert get(client, f"/answer?version={runs['version']}{odd}")["answers"] == []
    assert get(client, "/answer?compute=1e13") == get(client, "/frontier") == {"outdated": True}


def test_a_frontier_that_fails_is_a_sentence(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **given: Any) -> Any:
        raise RuntimeError("secret /path")

    monkeypatch.setattr("foretrain.tensorboard.plugin.study_frontier", fail)
    version = get(client, "/runs")["version"]
    view = get(client, f"/frontier?version={version}&exclude=0,1,2")
    assert view["sentence"] == "The frontier could not be found: TensorBoard's log says why."
    assert "could not be found" in caplog.text


@pytest.mark.parametrize(
    "path", ["/runs", "/law", "/frontier", "/answer", "/run", *(f"{FOLDER}/{n}" for n in FILES)]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_reading_is_answered(client: Client, path: str, method: str) -> None:
    answer = client.open(BASE + path, method=method)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_tensorboard_finds_nothing_to_warn_of(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for path in (
            "/runs",
            *(f"{FOLDER}/{name}" for name in FILES),
            "/law",
            "/frontier",
            "/answer",
            "/run",
        ):
            client.get(BASE + path)
    assert "3.0" not in caplog.text  # how the security validator words what it will refuse one day


class FakeData:
    """A data provider with one list of reports by run, which counts what is read."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts, self.step, self.reads = texts, 1, []  # type: ignore[var-annotated]

    def list_tensors(self, ctx: Any, *, experiment_id: str, plugin_name: str) -> Any:
        series = SimpleNamespace(max_step=self.step, max_wall_time=1.0)
        return {run: {report_tag("m"): series, "foreign/tag": series} for run in self.texts}

    def read_tensors(self, ctx: Any, *, run_tag_filter: Any, downsample: int, **rest: Any) -> Any:
        import numpy as np

        assert downsample == 1
        self.reads.append(sorted(run_tag_filter.runs))
        return {
            run: {report_tag("m"): [SimpleNamespace(numpy=np.array(self.texts[run].encode(), dtype=object))]}
            for run in run_tag_filter.runs
            if self.texts[run]
        }


def runs_of(plugin: ScalingPlugin) -> Any:
    return plugin.runs_impl(None, "", metric=None, study=None, axis=None)


def test_only_changed_runs_are_read_again_and_few_at_a_time() -> None:
    text = demo.demo_report(20_000).to_json()
    data = FakeData({f"r{i}": text for i in range(300)})
    plugin = ScalingPlugin(base_plugin.TBContext(data_provider=data))
    first = runs_of(plugin)
    assert [len(read) for read in data.reads] == [128, 128, 44]
    assert runs_of(plugin) == first
    assert len(data.reads) == 3
    del data.texts["r0"]
    data.step = 2
    assert len(runs_of(plugin)["runs"]) == 299
    assert runs_of(plugin)["version"] != first["version"]


def test_the_number_of_runs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretrain.tensorboard.reading.MAX_RUNS", 10)
    text = demo.demo_report(20_000).to_json()
    view = runs_of(
        ScalingPlugin(base_plugin.TBContext(data_provider=FakeData({f"r{i}": text for i in range(12)})))
    )
    assert [run["name"] for run in view["runs"]] == [f"r{i}" for i in range(10)]
    assert view["hidden"] == 2


def test_a_report_too_large_is_unreadable_and_a_missing_one_absent() -> None:
    big = demo.demo_report(20_000).to_json()[:-1] + ', "x": "' + "y" * 300_000 + '"}'
    plugin = ScalingPlugin(base_plugin.TBContext(data_provider=FakeData({"big": big, "gone": ""})))
    view = runs_of(plugin)
    assert [name for name, _ in view["unreadable"]] == ["big"]
    assert view["runs"] == []


def test_no_data_is_no_error() -> None:
    plugin = ScalingPlugin(base_plugin.TBContext(data_provider=FakeData({})))
    assert runs_of(plugin)["metric"] is None
    assert plugin.law_impl(None, "", metric=None, study=None, axis=None) == {"outdated": True}


def test_a_provider_that_fails_gives_one_plain_sentence(caplog: pytest.LogCaptureFixture) -> None:
    plugin = ScalingPlugin(base_plugin.TBContext(data_provider=None))
    answer = Client(plugin.get_plugin_apps()["/runs"]).get("/runs")
    assert answer.status_code == 500
    assert answer.mimetype == "text/plain"
    assert "Traceback" not in answer.text
    assert "AttributeError" in caplog.text


def test_what_failed_once_is_tried_again() -> None:
    once, calls = Once(2, 1), []

    def make() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("gone for a moment")
        return len(calls)

    with pytest.raises(OSError, match="gone for a moment"):
        once.get("a", make)
    assert [once.get("a", make), once.get("a", make)] == [2, 2]


def test_the_list_of_runs_is_made_anew_when_a_run_has_moved_on() -> None:
    data = FakeData({"a": demo.demo_report(20_000).to_json()})
    plugin = ScalingPlugin(base_plugin.TBContext(data_provider=data))
    ask = Client(plugin.get_plugin_apps()["/runs"])
    first = ask.get("/runs").json
    assert ask.get("/runs").json == first
    data.step, data.texts["a"] = 2, demo.demo_report(20_000, seen=9000.0).to_json()
    moved = ask.get("/runs").json
    assert moved["version"] != first["version"]
    assert moved["runs"][0]["data"] == pytest.approx(9000.0)
    assert ask.get("/runs?along=tokens").json["data_label"] == "tokens seen"


def test_an_entry_that_cannot_be_made_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from foretrain.tensorboard import reading as module

    def odd(run: str, report: Report) -> Entry:
        raise RecursionError

    monkeypatch.setattr(module, "entry", odd)
    text = demo.demo_report(20_000).to_json()
    view = runs_of(ScalingPlugin(base_plugin.TBContext(data_provider=FakeData({"odd": text}))))
    assert view["unreadable"] == [["odd", "Expected a report, got something else."]]


@pytest.mark.parametrize("missing", ["foretrain.report", "werkzeug", "foretrain.tensorboard.view"])
def test_a_broken_plugin_is_left_out_with_one_line(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from foretrain.tensorboard.loader import ScalingLoader\n"
        "assert ScalingLoader().load(None) is None\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "the Scaling tab is left out" in done.stderr


def test_the_loader_only_touches_its_own_flag() -> None:
    flags = SimpleNamespace(samples_per_plugin={"images": 3})
    ScalingLoader().fix_flags(flags)
    assert flags.samples_per_plugin == {"images": 3, "foretrain": 1}
    flags.samples_per_plugin["foretrain"] = 7
    ScalingLoader().fix_flags(flags)
    assert flags.samples_per_plugin["foretrain"] == 7
    ScalingLoader().fix_flags(object())  # an odd TensorBoard must still start


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts `tensorboard` as a user would, and gives its address."""
    started: list[subprocess.Popen[str]] = []

    def start(logdir: Path, before: str = "") -> str:
        code = f"{before}\nfrom tensorboard.main import run_main\nrun_main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "--logdir", str(logdir), "--port", "0", "--load_fast", "false"],
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"at (http://\S+)", line)
            if found:
                return found[1].rstrip("/")
        raise AssertionError("TensorBoard did not start")

    yield start
    for process in started:
        process.terminate()
        process.wait(10)


def listing(address: str) -> Any:
    with urllib.request.urlopen(f"{address}/data/plugins_listing", timeout=30) as answer:
        return json.load(answer)


def test_tensorboard_starts_and_shows_the_tab(serve: Callable[..., str], tmp_path: Path) -> None:
    write(tmp_path / "run", demo.demo_report(20_000).to_json())
    address = serve(tmp_path)
    until = time.monotonic() + 30
    while not listing(address)["foretrain"]["enabled"] and time.monotonic() < until:
        time.sleep(0.2)
    assert listing(address)["foretrain"]["enabled"]


def test_tensorboard_starts_without_a_tab_that_is_broken(serve: Callable[..., str], tmp_path: Path) -> None:
    broken = "import sys; sys.modules['foretrain.tensorboard.plugin'] = None"
    names = listing(serve(tmp_path, broken))
    assert "foretrain" not in names
    assert "scalars" in names
