"""The ledger of injected faults, and the table that is printed of it."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import fault_table
from fault_ledger import effort, record
from fault_table import Entry, failures, read, show, together

GOOD = Entry(row=1, fault="kill -9", injected=200, asked=200, lost=0, stopped=0)


def test_effort_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORETRAIN_TEST_EFFORT", raising=False)
    assert effort(3, 200) == 3
    monkeypatch.setenv("FORETRAIN_TEST_EFFORT", "full")
    assert effort(3, 200) == 200


def test_what_is_recorded_is_read_in_the_order_of_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORETRAIN_FAULTS", str(tmp_path / "ledger"))
    record(3, "flipped bits", 20, 10, lost=2)
    record(1, "kill -9", 200, 200)
    assert read(tmp_path / "ledger") == [GOOD, Entry(3, "flipped bits", 20, 10, lost=2, stopped=0)]


def test_nothing_is_recorded_where_nobody_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FORETRAIN_FAULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    record(1, "kill -9", 200, 200)
    assert not list(tmp_path.iterdir())
    assert read(tmp_path / "ledger") == []


@pytest.mark.parametrize(("injected", "asked", "lost"), [(1, 0, 0), (-1, 1, 0), (1, 1, -1)])
def test_counts_that_make_no_sense_are_refused(injected: int, asked: int, lost: int) -> None:
    with pytest.raises(ValueError, match="Expected counts from 0 and at least one fault asked for"):
        record(1, "kill -9", injected, asked, lost=lost)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (GOOD, []),
        (Entry(1, "kill", 199, 200, 0, 0), ["Row 1, kill: 199 of 200 injected, 0 records lost, 0 stopped"]),
        (Entry(1, "kill", 200, 200, 1, 0), ["Row 1, kill: 200 of 200 injected, 1 records lost, 0 stopped"]),
        (Entry(1, "kill", 200, 200, 0, 1), ["Row 1, kill: 200 of 200 injected, 0 records lost, 1 stopped"]),
    ],
)
def test_too_few_faults_and_every_loss_are_failures(entry: Entry, said: list[str]) -> None:
    assert failures([entry], {1: "killed while writing"}) == said


def test_a_row_without_faults_is_a_failure() -> None:
    said = failures([GOOD], {1: "killed while writing", 2: "unfinished last line"})
    assert said == ["Row 2, unfinished last line: nothing was injected"]


def test_the_table_shows_every_count_and_the_totals() -> None:
    out = io.StringIO()
    show([GOOD, Entry(3, "flipped bits", 25_000, 1, lost=2, stopped=1)], Console(file=out, width=130))
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in out.getvalue().splitlines()
        if "│" in line
    ]
    assert rows == [
        ["1", "killed while writing", "kill -9", "200", "200", "0", "0"],
        ["3", "flipped bits, zeroed pages", "flipped bits", "25,000", "1", "2", "1"],
        ["", "all", "", "25,200", "", "2", "1"],
    ]


def test_tests_of_one_fault_are_one_line_unless_one_of_them_failed() -> None:
    short, other = replace(GOOD, injected=100), replace(GOOD, fault="kill -15")
    assert together([GOOD, other, GOOD]) == [replace(GOOD, injected=400, asked=400), other]
    assert together([GOOD, short]) == [GOOD, short]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("record(1, 'kill', effort(1, 7), 7)", 0, ""),
        ("record(1, 'kill', effort(1, 7), 8)", 1, "Row 1, kill: 7 of 8 injected"),
        ("record(1, 'kill', 7, 7); assert 0", 1, "The fault tests ended with status 1; see above"),
        (
            "import pytest; pytest.skip('no such disk')",
            1,
            "Row 1, killed while writing: nothing was injected",
        ),
    ],
)
def test_the_command_fails_where_a_fault_did(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    body: str,
    status: int,
    said: str,
) -> None:
    source = f"from fault_ledger import effort, record\ndef test_it():\n    {body}\n"
    (tmp_path / "test_faults_one.py").write_text(source)
    monkeypatch.setattr(fault_table, "__file__", str(tmp_path / "fault_table.py"))
    monkeypatch.setattr(fault_table, "ROWS", {1: "killed while writing"})
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # their imports take longer than the test
    assert fault_table.main(["-q", "-p", "no:cacheprovider"]) == status
    assert said in capsys.readouterr().out
