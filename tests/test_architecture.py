"""Who may import whom. A module that is missing from the table fails the test, too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import foretrain

ROOT = Path(foretrain.__file__).parent

TABLE = """
foretrain: decisions fitting flagging flags frontier laws projection regions resampling runs.projection
axes:
laws:
flags:
flagging: conventions families.family families.model flags forecasting.uncertainty inputs laws observation
    runs.annealing status
conventions:
knots:
schedule: knots
observation: axes knots schedule
schedule_history: knots observation schedule
status:
regions: laws
forecasting.doubts: laws regions status
freezing: laws
fitting: freezing laws status
families.repeated: fitting inputs laws
forecasting.upturn: forecasting.doubts laws regions
families.repeated_model: families.repeated fitting inputs laws projection
runs.annealing_fit: laws
forecasting.averaging: laws
forecasting.past_forecasts: forecasting.averaging laws
forecasting.uncertainty: forecasting.averaging forecasting.doubts forecasting.past_forecasts laws status
families.pairs: fitting laws
families.model: families.pairs fitting forecasting.uncertainty laws status
families.family: families.model families.pairs fitting laws status
frontier:
decisions: axes conventions families.family families.model families.repeated frontier inputs laws
    observation projection reporting.comparison reporting.entering reporting.points reporting.repeats
    reporting.soundness run_flags status
resampling: fitting laws resampling.checks resampling.curve resampling.joint
resampling.checks: laws
resampling.curve: laws
resampling.joint: laws
reporting.findings:
reporting.sentences: reporting.findings
report: flags reporting.findings
inputs: laws
projection: families.family families.model fitting forecasting.uncertainty inputs laws report status
runs.annealing: laws
runs.curve: laws runs.annealing
runs.fit: laws runs.curve
runs.templates: laws runs.curve
runs.usual:
runs.model: laws runs.annealing runs.curve runs.fit runs.templates runs.usual
runs.projection: inputs laws projection runs.curve runs.forecaster
reporting.entering: laws observation reporting.findings schedule
reporting.comparison: conventions families.family families.model fitting forecasting.uncertainty laws
    projection report reporting.entering reporting.findings status
reporting.soundness: families.family families.model forecasting.uncertainty laws reporting.comparison
reporting.question: axes projection
reporting.points: axes forecasting.upturn laws observation reporting.comparison reporting.entering
    reporting.findings
reporting.history: axes observation reporting.findings reporting.points
reporting.repeats: axes families.repeated forecasting.uncertainty laws observation reporting.findings
runs.course: axes laws observation reporting.points runs.annealing runs.curve schedule
reporting.survey: conventions laws observation reporting.comparison
run_flags: flagging flags observation runs.annealing schedule
reporting.earlier: observation report reporting.comparison reporting.points reporting.survey run_flags
    runs.course
runs.forecaster: families.model forecasting.doubts forecasting.uncertainty laws projection runs.annealing
    runs.curve runs.model status
families.relatives: families.family families.model laws projection reporting.comparison reporting.entering
families.borrowing: families.relatives forecasting.uncertainty laws projection reporting.comparison
    reporting.findings reporting.soundness status
reporting.track: families.borrowing families.relatives forecasting.uncertainty laws projection
    reporting.findings runs.course runs.curve runs.forecaster
reporting.outlook: families.borrowing families.relatives fitting forecasting.uncertainty laws projection
    regions report reporting.findings reporting.repeats runs.annealing runs.course runs.forecaster status
reporting.run: axes families.borrowing families.relatives laws observation regions reporting.comparison
    reporting.earlier reporting.findings reporting.outlook reporting.points reporting.question
    reporting.repeats reporting.track runs.course status
analysis: axes flags observation report reporting.comparison reporting.earlier reporting.history
    reporting.points reporting.question reporting.run reporting.soundness status
reporting.overview: conventions families.family families.model families.relatives forecasting.uncertainty
    laws projection reporting.comparison reporting.entering reporting.findings reporting.soundness
storage.records: axes observation
storage.urls:
storage.attempts: conventions observation schedule_history
storage.held: axes observation storage.attempts storage.records
storage.held_cache: storage.held storage.records
storage.held_runs: observation storage.attempts storage.held
storage.record_file: observation storage.attempts storage.held storage.records
storage.fragments: observation storage.records
storage.objects: storage.urls
storage.mirror: storage.fragments storage.objects storage.records storage.urls
storage.reader: observation storage.attempts storage.held storage.held_cache storage.held_runs
    storage.mirror storage.record_file storage.records storage.urls
storage.attempt_file: observation storage.records
store: observation storage.attempt_file storage.reader storage.records storage.urls
storage.spool:
storage.shipping: storage.fragments storage.objects storage.records storage.spool
storage.uploader: storage.mirror storage.objects storage.shipping storage.spool storage.urls
storage.url_store: observation storage.fragments storage.mirror storage.records storage.spool
    storage.uploader storage.urls store
study.points:
study.executors:
study.progress:
study.job: conventions observation storage.attempts storage.reader storage.record_file storage.records
    storage.url_store storage.urls
study.launch: study.executors study.job study.points study.progress
study: storage.reader storage.urls study.executors study.job study.launch study.points study.progress
process:
fitter: flags process report
child: analysis observation report store
study.file: storage.urls study.job study.points
storage.merging: observation storage.reader storage.record_file storage.records
importers: axes conventions observation schedule storage.records storage.url_store storage.urls store
    tensorboard.events tensorboard.metadata
cli: analysis axes compute conventions decisions families.repeated fitting flags foretrain frontier importers
    laws observation report reporting.comparison reporting.entering reporting.findings reporting.overview
    reporting.points reporting.sentences resampling run_flags runs.course status storage.attempts
    storage.merging storage.mirror storage.reader storage.record_file storage.records storage.urls store study
    study.file study.job study.points tensorboard.summary
shards:
hestness.law: inputs laws
hestness.runs: frontier inputs laws observation
hestness.table:
hestness: frontier hestness.law hestness.runs hestness.table inputs laws observation regions
hestness.target: hestness hestness.law
error_sources: hestness.law inputs laws status
downstream: families.family forecasting.uncertainty hestness.law inputs laws projection status
compute: conventions hestness.law inputs laws observation storage.attempts
cross_validation: fitting inputs laws
pruning: axes inputs laws observation
timescale: fitting hestness.law inputs laws observation status
lightning: axes conventions fitter flags knots observation report reporting.findings schedule shards
    storage.url_store storage.urls store tensorboard.picture tensorboard.standard tensorboard.summary
tensorboard:
tensorboard.metadata:
tensorboard.events:
tensorboard.summary: report tensorboard.metadata
tensorboard.loader: tensorboard.metadata tensorboard.plugin
tensorboard.plain:
tensorboard.words: axes report reporting.findings reporting.sentences tensorboard.plain
tensorboard.beside: axes report tensorboard.plain
tensorboard.rows: report reporting.findings tensorboard.beside tensorboard.plain tensorboard.words
tensorboard.view: axes reporting.findings reporting.sentences tensorboard.plain tensorboard.rows
    tensorboard.words
tensorboard.law_view: analysis report tensorboard.plain tensorboard.rows tensorboard.view tensorboard.words
tensorboard.frontier: axes decisions observation schedule tensorboard.law_view tensorboard.plain
    tensorboard.rows tensorboard.words
tensorboard.run_view: tensorboard.beside tensorboard.plain tensorboard.rows tensorboard.words
tensorboard.answers: decisions tensorboard.frontier tensorboard.plain tensorboard.words
tensorboard.standard: report reporting.findings tensorboard.plain tensorboard.summary tensorboard.words
tensorboard.picture: report tensorboard.plain tensorboard.words
tensorboard.once:
tensorboard.web:
tensorboard.reading: report tensorboard.metadata tensorboard.rows tensorboard.run_view tensorboard.summary
    tensorboard.view
tensorboard.plugin: analysis report tensorboard.answers tensorboard.frontier tensorboard.law_view
    tensorboard.metadata tensorboard.once tensorboard.reading tensorboard.run_view tensorboard.view
    tensorboard.web
storage:
runs:
families:
forecasting:
reporting:
"""
"""Who: whom. Modules, without the leading `foretrain.`; the packages of `WHOLE` have one row for all theirs.

`foretrain` itself loads its names where they are asked for; `importers` the reader of TensorBoard's files."""

MAY_IMPORT = {
    unit: set(may.split())
    for unit, _, may in (line.partition(":") for line in TABLE.replace("\n   ", "").strip().splitlines())
}

WHOLE = (
    *("cli", "compute", "decisions", "downstream", "flagging", "importers", "error_sources", "laws"),
    *("lightning", "pruning", "timescale"),
)

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
    return ".".join(parts) or "foretrain"


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
        "foretrain.runs.projection",
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
