"""Who may import whom. A module that is missing from the table fails the test, too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import foretrain

ROOT = Path(foretrain.__file__).parent

MAY_IMPORT = {
    "": {
        "decisions",
        "fitting",
        "flagging",
        "flags",
        "frontier",
        "laws",
        "projection",
        "regions",
        "resampling",
        "run_projection",
    },  # lazily
    "axes": set(),
    "laws": set(),
    "flags": set(),
    "flagging": {"annealing", "flags", "inputs", "laws"},
    "conventions": set(),
    "knots": set(),
    "schedule": {"knots"},
    "observation": {"axes", "knots", "schedule"},
    "schedule_history": {"knots", "observation", "schedule"},
    "status": set(),
    "regions": {"laws"},
    "doubts": {"laws", "regions", "status"},
    "freezing": {"laws"},
    "fitting": {"freezing", "laws", "status"},
    "repeated": {"fitting", "inputs", "laws"},
    "upturn": {"doubts", "laws", "regions"},
    "repeated_model": {"fitting", "inputs", "laws", "projection", "repeated"},
    "annealing_fit": {"laws"},
    "averaging": {"laws"},
    "past_forecasts": {"averaging", "laws"},
    "uncertainty": {"averaging", "laws", "doubts", "past_forecasts", "status"},
    "pairs": {"laws", "fitting"},
    "family_model": {"laws", "fitting", "pairs", "uncertainty", "status"},
    "family": {"laws", "fitting", "pairs", "family_model", "status"},
    "frontier": set(),
    "decisions": {
        *("axes", "comparison", "conventions", "entering", "family", "family_model", "frontier", "inputs"),
        *("laws", "observation", "points", "projection", "repeated", "repeats", "run_flags", "soundness"),
        "status",
    },
    "resampling": {"laws", "fitting", "resampling_checks", "resampling_curve", "resampling_joint"},
    "resampling_checks": {"laws"},
    "resampling_curve": {"laws"},
    "resampling_joint": {"laws"},
    "findings": set(),
    "report": {"findings", "flags"},
    "inputs": {"laws"},
    "projection": {"laws", "fitting", "inputs", "uncertainty", "family", "family_model", "report", "status"},
    "annealing": {"laws"},
    "run_curve": {"annealing", "laws"},
    "run_fit": {"run_curve", "laws"},
    "templates": {"run_curve", "laws"},
    "usual": set(),
    "run_model": {"annealing", "run_curve", "run_fit", "templates", "usual", "laws"},
    "run_projection": {"forecaster", "inputs", "laws", "projection", "run_curve"},
    "entering": {"findings", "laws", "observation", "schedule"},
    "comparison": {
        *("conventions", "entering", "findings", "laws", "fitting", "uncertainty", "family", "family_model"),
        *("projection", "report", "status"),
    },
    "soundness": {"comparison", "family", "family_model", "laws", "uncertainty"},
    "question": {"axes", "projection"},
    "points": {"axes", "comparison", "entering", "findings", "laws", "observation", "upturn"},
    "history": {"axes", "findings", "observation", "points"},
    "repeats": {"axes", "findings", "laws", "observation", "repeated", "uncertainty"},
    "course": {"annealing", "axes", "laws", "observation", "points", "run_curve", "schedule"},
    "survey": {"comparison", "conventions", "laws", "observation"},
    "run_flags": {"annealing", "conventions", "flagging", "flags", "observation", "schedule"},
    "earlier": {"comparison", "course", "observation", "points", "report", "run_flags", "survey"},
    "forecaster": {
        *("annealing", "doubts", "family_model", "laws", "projection", "run_curve", "run_model", "status"),
        "uncertainty",
    },
    "relatives": {"comparison", "entering", "family", "family_model", "laws", "projection"},
    "borrowing": {
        *("comparison", "findings", "laws", "projection", "relatives", "soundness", "status"),
        "uncertainty",
    },
    "track": {
        *("borrowing", "course", "findings", "forecaster", "laws", "projection", "relatives", "run_curve"),
        "uncertainty",
    },
    "outlook": {
        *("annealing", "borrowing", "course", "findings", "fitting", "forecaster", "laws", "projection"),
        *("regions", "relatives", "repeats", "report", "status", "uncertainty"),
    },
    "run_analysis": {
        *("axes", "borrowing", "comparison", "course", "earlier", "findings", "laws", "observation"),
        *("outlook", "points", "question", "regions", "relatives", "repeats", "status", "track"),
    },
    "analysis": {
        *("axes", "observation", "comparison", "earlier", "flags", "history", "points", "question"),
        *("report", "run_analysis", "soundness", "status"),
    },
    "overview": {
        *("comparison", "conventions", "entering", "family", "family_model", "findings", "laws"),
        *("projection", "relatives", "soundness", "uncertainty"),
    },
    "records": {"axes", "observation"},
    "urls": set(),
    "attempts": {"conventions", "observation", "schedule_history"},
    "held": {"attempts", "axes", "observation", "records"},
    "held_cache": {"held", "records"},
    "held_runs": {"attempts", "held", "observation"},
    "record_file": {"attempts", "held", "observation", "records"},
    "fragments": {"observation", "records"},
    "objects": {"urls"},
    "mirror": {"fragments", "objects", "records", "urls"},
    "reader": {
        "attempts",
        "held",
        "held_cache",
        "held_runs",
        "mirror",
        "observation",
        "record_file",
        "records",
        "urls",
    },
    "attempt_file": {"observation", "records"},
    "store": {"attempt_file", "observation", "records", "reader", "urls"},
    "spool": set(),
    "shipping": {"fragments", "objects", "records", "spool"},
    "uploader": {"mirror", "objects", "shipping", "spool", "urls"},
    "url_store": {
        *("fragments", "mirror", "observation", "records", "spool", "store", "uploader", "urls"),
    },
    "study_points": set(),
    "study_executors": set(),
    "study_progress": set(),
    "study_job": {
        *("attempts", "observation", "reader", "record_file", "records", "url_store", "urls"),
    },
    "study_launch": {"study_executors", "study_job", "study_points", "study_progress"},
    "study": {
        *("reader", "study_executors", "study_job", "study_launch", "study_points", "study_progress", "urls"),
    },
    "process": set(),
    "fitter": {"flags", "process", "report"},
    "child": {"observation", "store", "report", "analysis"},
    "study_file": {"study_job", "study_points", "urls"},
    "merging": {"observation", "reader", "record_file", "records"},
    "importers": {
        *("axes", "observation", "records", "schedule", "store", "url_store", "urls"),
        "tensorboard.events",  # reads TensorBoard's files, and loads TensorBoard only then
    },
    "cli": {
        *("", "axes", "analysis", "comparison", "conventions", "course", "decisions", "entering", "findings"),
        *("fitting", "flags", "run_flags"),
        *("frontier", "importers", "laws", "merging", "mirror", "observation", "overview", "points"),
        "reader",
        *(
            "record_file",
            "records",
            "repeated",
            "report",
            "resampling",
            "status",
            "store",
            "tensorboard.summary",
        ),
        *("study", "study_file", "study_job", "study_points", "urls"),
    },
    "shards": set(),
    "hestness_law": {"inputs", "laws"},
    "hestness_runs": {"frontier", "inputs", "laws", "observation"},
    "hestness_table": set(),
    "hestness": {
        *("frontier", "hestness_law", "hestness_runs", "hestness_table", "inputs", "laws", "observation"),
        "regions",
    },
    "hestness_target": {"hestness", "hestness_law"},
    "error_sources": {"hestness_law", "inputs", "laws", "status"},
    "cross_validation": {"fitting", "inputs", "laws"},
    "pruning": {"inputs", "laws"},
    "timescale": {"fitting", "hestness_law", "inputs", "laws", "observation", "status"},
    "lightning": {
        *("flags", "shards"),
        *(
            "axes",
            "conventions",
            "knots",
            "schedule",
            "observation",
            "store",
            "fitter",
            "report",
            "tensorboard.summary",
            "tensorboard.standard",
            "tensorboard.picture",
        ),
        *("findings", "url_store", "urls"),
    },
    "tensorboard": set(),
    "tensorboard.metadata": set(),
    "tensorboard.events": set(),
    "tensorboard.summary": {"report", "tensorboard.metadata"},
    "tensorboard.loader": {"tensorboard.metadata", "tensorboard.plugin"},
    "tensorboard.plain": set(),
    "tensorboard.words": {"axes", "findings", "report", "tensorboard.plain"},
    "tensorboard.beside": {"axes", "report", "tensorboard.plain"},
    "tensorboard.rows": {
        *("findings", "report"),
        *(f"tensorboard.{name}" for name in ("beside", "plain", "words")),
    },
    "tensorboard.view": {
        *("axes", "findings"),
        *(f"tensorboard.{name}" for name in ("plain", "rows", "words")),
    },
    "tensorboard.law_view": {
        *("analysis", "report"),
        *(f"tensorboard.{name}" for name in ("plain", "rows", "view", "words")),
    },
    "tensorboard.frontier": {
        *("axes", "decisions", "observation", "schedule"),
        *(f"tensorboard.{name}" for name in ("law_view", "plain", "rows", "words")),
    },
    "tensorboard.run_view": {f"tensorboard.{name}" for name in ("beside", "plain", "rows", "words")},
    "tensorboard.answers": {
        "decisions",
        *(f"tensorboard.{name}" for name in ("frontier", "plain", "words")),
    },
    "tensorboard.standard": {
        *("findings", "report", "tensorboard.plain", "tensorboard.summary", "tensorboard.words"),
    },
    "tensorboard.picture": {"report", "tensorboard.plain", "tensorboard.words"},
    "tensorboard.once": set(),
    "tensorboard.web": set(),
    "tensorboard.reading": {
        "report",
        *(f"tensorboard.{name}" for name in ("metadata", "rows", "run_view", "summary", "view")),
    },
    "tensorboard.plugin": {
        *("report", "analysis"),
        *(f"tensorboard.{name}" for name in ("answers", "frontier", "law_view", "metadata", "once")),
        "tensorboard.reading",
        *(f"tensorboard.{name}" for name in ("run_view", "view", "web")),
    },
}
"""Modules, without the leading `foretrain.`; the packages of `WHOLE` have one row for all theirs."""

WHOLE = ("cli", "decisions", "flagging", "importers", "error_sources", "laws", "lightning", "timescale")

FRAMEWORKS = {
    "torch": ("lightning",),
    "lightning": ("lightning",),
    "pytorch_lightning": ("lightning",),
    "tensorboard": ("tensorboard",),
    "tensorboardX": ("tensorboard",),
}


def unit_of(module: str) -> str:
    """The row of the table that a module of ours belongs to."""
    parts = module.split(".")[1:]
    if parts and parts[0] in WHOLE:
        return parts[0]
    return ".".join(parts)


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("foretrain", *path.relative_to(ROOT).with_suffix("").parts)
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path):
    """Every module that a file imports, wherever in it; of a name imported from ours, its module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            known = {name for name, _ in modules()}
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: str(value).split("/")[-1])
def test_imports_only_what_the_table_allows(module, path):
    unit = unit_of(module)
    assert unit in MAY_IMPORT, f"{module} is missing from the table: decide what it may import"
    for imported in imports(path):
        top = imported.split(".")[0]
        if top == "foretrain":
            target = unit_of(imported)
            assert target == unit or target in MAY_IMPORT[unit], f"{module} imports {imported}"
        elif top in FRAMEWORKS:
            assert unit.split(".")[0] in FRAMEWORKS[top], f"{module} imports {imported}"


def test_the_table_has_no_row_for_what_is_gone():
    assert set(MAY_IMPORT) == {unit_of(module) for module, _ in modules()}


def test_importing_foretrain_loads_no_framework_and_no_numbers():
    code = "import sys, foretrain; print(*sorted(m.split('.')[0] for m in sys.modules))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    assert "foretrain" in loaded
    assert not loaded & {"torch", "lightning", "pytorch_lightning", "tensorboard", "numpy", "scipy"}


def test_every_name_of_the_package_is_there_and_loads_no_framework():
    code = (
        "import sys, foretrain; found = [getattr(foretrain, name) for name in foretrain.__all__];"
        "assert set(foretrain.__all__) <= set(dir(foretrain));"
        "print(*(getattr(item, '__module__', '-') for item in found));"
        "print(*sorted(m.split('.')[0] for m in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    homes, loaded = ran.stdout.splitlines()
    assert homes.split() == [
        "-",
        "foretrain.flags",
        "foretrain.projection",
        "foretrain.decisions.planner",
        "-",
        "foretrain.decisions.planner",
        "foretrain.fitting",
        "foretrain.frontier",
        "foretrain.flagging.replay",
        "foretrain.projection",
        "foretrain.projection",
        "foretrain.run_projection",
        "foretrain.regions",
        "foretrain.resampling",
        "foretrain.resampling",
    ]
    assert not set(loaded.split()) & {"torch", "lightning", "pytorch_lightning", "tensorboard"}


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(AttributeError, match="module 'foretrain' has no attribute 'forcast'"):
        foretrain.forcast  # noqa: B018


def test_forecasting_loads_no_framework():
    code = (
        "import sys, foretrain; foretrain.forecast([1, 2, 3, 4, 5], [5, 4, 3, 2.5, 2.2], [10]);"
        "print(*sorted(m.split('.')[0] for m in sys.modules))"
    )
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    assert {"foretrain", "numpy"} <= loaded
    assert not loaded & {"torch", "lightning", "pytorch_lightning", "tensorboard"}
