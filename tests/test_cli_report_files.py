"""`foretrain report --html --png`: a file that needs nothing else, and pictures of what the reports say."""

import base64
import json
import math
import re
import sys
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from foretrain.analysis import Question, analyze
from foretrain.cli import main
from foretrain.cli.drawing import render
from foretrain.cli.figures import draw, residuals
from foretrain.cli.page import Tables, page, section
from foretrain.report import LawFit, PastForecast, Report
from foretrain.storage.records import folder_name
from foretrain.store import ObservationStore
from foretrain.tensorboard.summary import read_report
from test_analysis import SIZES, record
from test_importers import csv_file, event_file

pytest.importorskip("matplotlib")

HOSTILE = "_$x^{\\<script>alert(1)</script>\"'&\x1b[2J\u202e"


@pytest.fixture(scope="module")
def reports():
    runs = {f"n{n:.0e}": replace(record(f"n{n:.0e}", n), state="finished") for n in SIZES}
    return [analyze(runs, Question(run=name)) for name in runs]


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("logs")
    for n in (*SIZES, 2e6):
        run = record(HOSTILE if n == 2e6 else f"n{n:.0e}", n)
        store = ObservationStore(root / "foretrain")
        store.begin(run.info)
        assert all([store.append(o) for o in run.observations])
        store.finish("finished")
        store.close()
    return root


def keep_run(root, name):
    store = ObservationStore(root / "foretrain")
    run = record(name, 1e6)
    store.begin(run.info)
    assert all([store.append(o) for o in run.observations])
    store.close()


class Page(HTMLParser):
    """The tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_one_file_that_nothing_in_it_can_act_from(log_dir, tmp_path, capsys):
    path = tmp_path / "report.html"
    assert main(["report", str(log_dir), "--html", str(path), "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(SIZES) + 1
    text = path.read_text()
    found = Page(text)
    assert found.open == []
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "link", "iframe", "object", "form", "a"} and {"table", "img"} <= names
    attributes = [name for _, held in found.tags for name in held]
    assert not [name for name in attributes if name.startswith("on") or name in ("href", "action")]
    sources = [held["src"] for tag, held in found.tags if tag == "img"]
    assert len(sources) == 8 and all(s.startswith("data:image/svg+xml;base64,") for s in sources)
    assert "default-src 'none'" in str(found.tags)
    assert "\x1b" not in text and "\u202e" not in text
    assert "_$x^{\\<script>alert(1)</script>\"'&\\x1b[2J\\x202e" in found.text
    assert "All sizes together" in found.text and "Doubts and flags" in found.text
    for source in sources:
        drawn = ElementTree.fromstring(base64.b64decode(source.partition(",")[2]))
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
        assert not [e for e in drawn.iter() if e.tag.endswith(("script", "foreignObject"))]


def test_pictures_are_written_and_the_same_each_time(log_dir, reports, tmp_path):
    assert main(["report", str(log_dir), "--png", str(tmp_path / "new" / "png")]) == 0
    written = {p.name: p.read_bytes() for p in (tmp_path / "new" / "png").iterdir()}
    names = ("curves", "joint", "residuals", "track", "slices", "frontier", "isoflop", "law_residuals")
    assert set(written) == {f"{name}.png" for name in names}
    assert all(data.startswith(b"\x89PNG") and len(data) > 5_000 for data in written.values())
    for kind in ("svg", "png"):
        one, two = (render(draw(reports)["joint"], kind) for _ in range(2))
        assert one == two


def test_two_studies_have_pictures_of_their_own(tmp_path):
    for study in ("a", "b"):
        store = ObservationStore(tmp_path / "foretrain", study)
        run = record("r", 1e6)
        store.begin(run.info)
        assert all([store.append(o) for o in run.observations])
        store.close()
    assert (
        main(["report", str(tmp_path), "--png", str(tmp_path / "png"), "--html", str(tmp_path / "x.html")])
        == 0
    )
    names = sorted(re.sub("-[0-9a-f]{8}-", "-", p.name) for p in (tmp_path / "png").iterdir())
    assert names == ["a-curves.png", "a-residuals.png", "b-curves.png", "b-residuals.png"]
    assert Page((tmp_path / "x.html").read_text()).text.count("Study ") == 2


def test_the_curves_are_the_points_and_the_projection(reports):
    (axes,) = draw(reports)["curves"].axes
    dots = [line for line in axes.lines if line.get_marker() == "."]
    for report, line in zip(reports, dots, strict=True):
        assert np.array_equal(line.get_xydata(), np.array(report.points))
        assert line.get_label().strip() == report.run
    medians = [line for line in axes.lines if line.get_marker() != "."]
    for report, line in zip(reports, medians, strict=True):
        shown = {x: y for x, y in zip(report.curve.x, report.curve.median, strict=True)}
        assert all(shown[x] == y for x, y in line.get_xydata()) and len(line.get_xdata()) > 10
        assert max(line.get_xdata()) <= 10 * report.points[-1][0]
    assert len(axes.collections) == len(reports)
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_the_joint_law_stands_beside_the_runs_it_is_of(reports):
    joint = reports[0].joint
    (axes,) = draw(reports)["joint"].axes
    band, *dots = axes.lines
    assert list(band.get_ydata()) == list(joint.by_size.median)
    assert [dot.get_xdata()[0] for dot in dots] == [r.params for r in reports]
    for report, dot in zip(reports, dots, strict=True):
        exact = dict(report.points)[joint.at_data]  # all sizes have a point there
        assert dot.get_ydata()[0] == pytest.approx(exact, rel=1e-9) and dot.get_marker() == "o"


def test_residuals_are_those_of_the_joint_law(reports):
    what, found = residuals(reports)
    assert what == "the joint law" and set(found) == set(reports[0].joint.runs) == {r.run for r in reports}
    p = reports[0].joint.fit.parameters
    for report in reports:
        x, off = found[report.run]
        for (data, value), told in zip(report.points, off, strict=True):
            law = p["E"] + p["A"] * report.params ** -p["alpha"] + p["B"] * data ** -p["beta"]
            assert told == pytest.approx(math.log(value / law), abs=1e-9)
        assert np.array_equal(x, [data for data, _ in report.points])
    (axes,) = draw(reports)["residuals"].axes
    drawn = [line.get_ydata() for line in axes.lines if line.get_marker() == "."]
    assert drawn[0] == pytest.approx(100 * np.expm1(found[reports[0].run][1]))


def test_without_a_joint_law_residuals_are_those_of_each_runs_own():
    law = LawFit("power", {"A": 10.0, "alpha": 0.5}, 0.9)
    other = LawFit("power", {"A": 1.0, "alpha": 0.1}, 0.1)
    report = Report("r", "m", "samples", 1, points=((4.0, 5.0), (25.0, 2.2)), fits=(other, law))
    what, found = residuals([report])
    assert what == "each run's own law"
    assert found["r"][1] == pytest.approx([0.0, math.log(1.1)])


def test_the_track_record_is_drawn_over_what_came():
    told = (
        PastForecast(0.25, 1.1, {"0.9": 1.05}, {"0.9": 1.2}, 1.0),
        PastForecast(0.5, 2.2, {"0.9": 1.8}, {"0.9": 2.4}, 2.0),
    )
    report = Report("r", "m", "samples", 1, state="finished", track=told)
    (axes,) = draw([report])["track"].axes
    assert "1 of 2 inside their 90 % interval" in axes.get_title(loc="left")
    points = [c.lines[0].get_xydata()[0] for c in axes.containers]
    assert np.allclose(points, [(0.25, 1.1), (0.5, 1.1)])
    bars = [c.lines[2][0].get_segments()[0][:, 1] for c in axes.containers]
    assert np.allclose(bars, [(1.05, 1.2), (0.9, 1.2)])
    assert set(draw([replace(report, state="running")])) == set()


@pytest.mark.parametrize("points", [((1.0, 2.0),), (), ((1.0, 2.0), (2.0, 1e-300))])
def test_little_and_odd_reports_are_drawn(points):
    report = Report(
        HOSTILE, "$m_{$", "samples", 1, points=points, fits=(LawFit("power", {"A": 1, "alpha": 0}),)
    )
    for figure in draw([report]).values():
        assert render(figure, "png").startswith(b"\x89PNG")
        assert b"<script" not in render(figure, "svg")
    text = page("t", [section([report], Tables(("run",), [(HOSTILE,)]), ["<b>"], {})])
    assert "<script>" not in text and "<b>" not in text and "&lt;b&gt;" in text


def test_many_runs_are_drawn_without_a_legend():
    many = [
        Report(f"r{i}", "m", "samples", 1, params=i + 1.0, points=((1.0, 2.0), (2.0, 1.0))) for i in range(50)
    ]
    (axes,) = draw(many)["curves"].axes
    assert axes.get_legend() is None and len(axes.lines) == 50


def test_without_matplotlib_what_to_install_is_said(log_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(log_dir), "--html", str(tmp_path / "x.html")]) == 1
    assert "Pictures need matplotlib: pip install 'foretrain[report]'." in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path, capsys):
    keep_run(tmp_path, "r")
    assert main(["report", str(tmp_path), "--html", str(tmp_path / "none" / "x.html")]) == 1
    assert "The report cannot be written: [Errno 2]" in capsys.readouterr().err


def reports_in_tab(root):
    """What the tab's server shows of each run, read as it reads, and how often each is there."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.util.tensor_util import make_ndarray

    found = {}
    for folder in {path.parent for path in root.rglob("*tfevents*")}:
        events = accumulator.EventAccumulator(str(folder)).Reload()
        tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("foretrain")]
        for tag in tags:
            (event,) = events.Tensors(tag)
            found[folder.relative_to(root).as_posix()] = read_report(make_ndarray(event.tensor_proto))
    return found


def test_imported_runs_are_in_the_tab(tmp_path, capsys):
    for n in SIZES[:3]:
        values = {o.counts.steps - 1: o.value for o in record("x", n).observations}
        event_file(tmp_path / f"n{n:.0e}", list(values), value=values.get)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    event_file(outside, [1])
    command = ["import", "tensorboard", str(tmp_path), "--metric", "val_loss", "--samples-per-step", "1000"]
    assert main([*command, "--params", "1e6", "--finished"]) == 0
    keep_run(tmp_path, f"../{outside.name}")
    before = {path: path.read_bytes() for path in outside.iterdir()}
    for _ in range(2):
        assert main(["report", str(tmp_path), "--tab", "--json"]) == 0
        out, err = capsys.readouterr()
        told = {one["run"]: one for one in map(json.loads, out.splitlines()[-4:])}
        assert "4 reports are in the tab.\n" in err
        found = reports_in_tab(tmp_path)
        (other,) = found.keys() - told.keys()  # by the folder of its records: its logs lie elsewhere
        assert other == f"foretrain/{folder_name('default')}/{folder_name(f'../{outside.name}')}"
        found[f"../{outside.name}"] = found.pop(other)
        assert {name: json.loads(report.to_json()) for name, report in found.items()} == told
    assert {path: path.read_bytes() for path in outside.iterdir()} == before
    assert main([*command, "--params", "1e6", "--finished", "--json"]) == 0
    assert {json.loads(line)["outcome"] for line in capsys.readouterr().out.splitlines()} == {"unchanged"}


def test_the_tab_of_a_url_is_refused(tmp_path, capsys, monkeypatch):
    pytest.importorskip("fsspec")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    url = f"memory://tab-{tmp_path.name}"
    csv_file(tmp_path / "r", "step,val_loss\n1,0.9\n")
    command = [
        "import",
        "csv",
        str(tmp_path / "r"),
        "--metric",
        "val_loss",
        "--batch-size",
        "8",
        "--into",
        url,
    ]
    assert main(command) == 0
    assert main(["report", url, "--tab"]) == 2
    assert "Expected a directory with --tab, got a URL" in capsys.readouterr().err
