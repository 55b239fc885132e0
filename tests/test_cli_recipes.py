"""`foretrain compare --recipe A --recipe B`: a recipe that saves compute is told by how much."""

import json
from dataclasses import replace

import pytest

from foretrain.cli import main
from test_cli_plan_runs import keep
from test_decisions_study import BATCH, SIZES, law, run

SAVED = 0.85
"""The better recipe's excess over the irreducible error of 1, over that of the other."""

STEPS = (500, 2000, 8000)


def family(prefix, saved=1.0, **changes):
    """Runs whose excess error is `saved` times that of the law."""
    runs = [run(f"{prefix}-{n:.0e}-{steps}", n, steps, **changes) for n in SIZES for steps in STEPS]
    for r in runs:
        n = r.observations[0].counts.params
        lower = [
            replace(
                o,
                value=o.value
                * (1 + saved * (law(n, o.counts.samples) - 1))
                / law(n, o.counts.samples)
                * (1 + 1e-3 * (saved != 1) * (-1) ** (i + n)),
            )
            for i, o in enumerate(r.observations)
        ]
        yield replace(r, observations=tuple(lower))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    root = tmp_path_factory.mktemp("recipes")
    for r in (*family("old"), *family("new", SAVED)):
        keep(root, r)
    keep(root, run("new-young", 1e6, 4000, state="running", last=3000))
    return root


def told(capsys, *arguments):
    assert main(["compare", *map(str, arguments), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def truth():
    """The compute of the old recipe over that of the new one, for one error: from the law's closed form.

    The best excess falls as compute to the power of -p, so the factor in excess is one of compute.
    """
    p = 0.4 * 0.46 / (0.4 + 0.46)
    return SAVED ** (-1 / p)


def test_the_better_recipe_is_told_with_what_it_saves(logs, capsys):
    found = told(capsys, logs, "--recipe", "new-*", "--recipe", "old-*")
    assert found["verdict"] == "new-*" and found["share"] > 0.9
    assert found["answer"]["lower"]["0.9"] < truth() < found["answer"]["upper"]["0.9"]
    assert len(found["recipes"]["new-*"]) == len(found["recipes"]["old-*"]) == 12
    assert [(one["recipe"], one["run"]) for one in found["left_out"]] == [("new-*", "new-young")]
    assert f"at {6 * 3e6 * BATCH * 8000:.3g} FLOPs" in found["question"]
    other = told(capsys, logs, "--recipe", "old-*", "--recipe", "new-*", "--budget", "1e13")
    assert other["verdict"] == "new-*" and "at 1e+13 FLOPs" in other["question"]


def test_studies_and_directories_are_recipes_too(logs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    for r in family("a"):
        keep(tmp_path, r, "first")
    for r in family("b"):
        keep(tmp_path, r, "second")
    assert main(["compare", str(tmp_path), "--recipe", "first", "--recipe", "second"]) == 0
    text = capsys.readouterr().out
    assert "but the points cannot tell" in text and "first: 12 points of 12 runs of 4 sizes." in text
    (one, _) = sorted((tmp_path / "foretrain").iterdir())
    found = told(capsys, one, "--against", next((logs / "foretrain").iterdir()))
    assert len(found["recipes"]) == 2


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--recipe", "new-*"], 2, "Expected --recipe twice, or --against, for two recipes"),
        (["--budget", "1e12"], 2, "Expected --recipe twice, or --against, with --budget"),
        (
            ["--recipe", "new-*", "--recipe", "old-*", "--at", "3"],
            2,
            "Expected recipes without --run and --at",
        ),
        (["--recipe", "none", "--recipe", "old-*"], 1, "got 'none', which names runs of: none"),
        (
            ["--recipe", "*", "--recipe", "old-*"],
            1,
            "Expected two recipes without common runs, got both with",
        ),
        (["--recipe", "new-young", "--recipe", "old-*"], 1, "new-young: Expected a run whose val_loss"),
    ],
)
def test_what_is_no_pair_of_recipes_is_refused(logs, capsys, options, code, message):
    assert main(["compare", str(logs), *options]) == code
    assert message in capsys.readouterr().err


def test_policies_of_selecting_data_are_recipes_and_are_compared(tmp_path, capsys):
    """A policy that saves compute does so as any other recipe; points of two are not in one law."""
    for r in (*family("all"), *family("hard", SAVED, rules={"data_policy": "hardest half"})):
        keep(tmp_path, r)
    found = told(capsys, tmp_path, "--recipe", "hard-*", "--recipe", "all-*")
    assert {name: len(runs) for name, runs in found["recipes"].items()} == {"hard-*": 12, "all-*": 12}
    assert found["verdict"] == "hard-*" and found["share"] > 0.9
    assert found["answer"]["lower"]["0.9"] < truth() < found["answer"]["upper"]["0.9"]
    mixed = told(capsys, tmp_path, "--recipe", "*e+06-*", "--recipe", "*e+05-*")
    assert {one["reason"].partition(":")[0] for one in mixed["left_out"]} == {
        "it was counted by other conventions than most"
    }


def test_recipes_that_were_counted_otherwise_are_not_compared(tmp_path, capsys):
    for r in (*family("a"), *family("b", rules={"samples": "per process"})):
        keep(tmp_path, r)
    for r in family("c", decay=False):
        keep(tmp_path, r)
    assert main(["compare", str(tmp_path), "--recipe", "a-*", "--recipe", "b-*"]) == 1
    assert "counted by different rules, and are not compared: samples: not recorded and per process" in (
        capsys.readouterr().err
    )
    assert main(["compare", str(tmp_path), "--recipe", "a-*", "--recipe", "c-*"]) == 1
    assert "or both with constant ones, got one of each" in capsys.readouterr().err
