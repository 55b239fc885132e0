"""Every block of code in README.md, docs/ and docstrings is run, and every command in them is.

The blocks of a page run in order, in one namespace, in a folder of their own that holds what a reader has
(`docs_given`). A block with a title is a file that the page has its reader write. What would take long is
made smaller by the table `SMALLER`, whose texts must stand on the page. A block that must not run has a
comment `<!-- not run: why -->` on the line before it; there is none. A text behind Python is what that must
print.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import io
import json
import re
import shlex
import sys
from contextlib import redirect_stdout
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs_blocks import PAGES, ROOT, Block, blocks, commands, inline_code
from docs_given import FOLDERS, MY_PROJECT, NAMES
from foretrain.cli import main, make_parser

KNOWN = {"python", "bash", "console", "text", "json", "yaml"}

SMALLER = {
    "docs/study.md": {
        "size=[16, 32, 64], data": "size=[16, 32], data",  # the third size is left for the file
        "seed=[0, 1, 2]": "seed=[0]",
        '"seed": [0, 1, 2]': '"seed": [0]',
        "process_pool(2)": "None",
        "max_steps=1000": "max_steps=8",
        "--workers 2": "--workers 1",
    },
    "docs/quickstart.md": {"max_epochs=2": "max_epochs=1", '("val_loss")': '("val_loss", fit=False)'},
    "docs/index.md": {'("val_loss")': '("val_loss", fit=False)'},  # README.md has the same, and fits
    "docs/studies/rosenfeld2020.md": {
        'cross_validate("rosenfeld", shares, error,': 'cross_validate("rosenfeld", shares, error, folds=3,'
    },
    "docs/monitor.md": {'("val_loss")': '("val_loss", fit=False)'},
}
"""What is replaced on a page before its code runs."""


def smaller(page: str, text: str) -> str:
    for long, short in SMALLER.get(page, {}).items():
        text = text.replace(long, short)
    return text


def has_code(page: Path) -> bool:
    return any(block.language in ("python", "bash", "console") for block in blocks(page))


CODE = [page for page in PAGES if has_code(page)]
ids = [str(page.relative_to(ROOT)) for page in CODE]


@pytest.mark.parametrize("page", CODE, ids=ids)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "2")
    monkeypatch.setenv("PL_TRAINER_ENABLE_PROGRESS_BAR", "0")
    for name in ("my_project", "my_training"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "my_project.py").write_text(MY_PROJECT)
    space: dict[str, Any] = {"__name__": "__main__"}
    prepare(page, tmp_path, space)
    printed = None
    for block in blocks(page):
        if block.not_run:
            continue
        if block.title:
            (tmp_path / block.title).write_text(smaller(block.page, block.text))
        if block.language == "python":
            printed = run_python(block, space)
        elif block.language in ("bash", "console"):
            for line in commands(block):
                run_command(f"{block.where}: {line}", smaller(block.page, line), tmp_path)
        elif block.language == "text" and printed:
            assert block.text == printed, f"{block.where} is not what the block before it prints"
            printed = None


def prepare(page: Path, folder: Path, space: dict[str, Any]) -> None:
    """Gives a page what its reader has: the folders it speaks of in code, and the names it does not make."""
    text = "\n".join(block.text for block in blocks(page))
    made = {block.title for block in blocks(page)}
    for name, make in FOLDERS.items():
        if re.search(rf"(?<![\w./]){name}(?![\w.])", text) and "train.py" not in made:
            make(folder / name)
    if '"foretrain' in text and not (folder / "foretrain").exists() and "train.py" not in made:
        FOLDERS["lightning_logs"](folder / "lightning_logs")
    for name, given in NAMES.items():
        if re.search(rf"\b{name}\b", text):
            space[name] = given()


def run_python(block: Block, space: dict[str, Any]) -> str:
    """Runs a block; what it prints, or "" for a session, whose answers are compared at once."""
    if ">>> " in block.text:
        session = doctest.DocTestParser().get_doctest(block.text, space, block.where, block.page, block.line)
        told = io.StringIO()
        runner = doctest.DocTestRunner(verbose=False)
        runner.run(session, out=told.write, clear_globs=False)
        space.update(session.globs)
        assert session.examples and not runner.failures, told.getvalue()
        return ""
    code = compile("\n" * (block.line - 1) + smaller(block.page, block.text), str(ROOT / block.page), "exec")
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(code, space)
    return printed.getvalue()


def run_command(where: str, line: str, folder: Path) -> None:
    """Runs a command of ours; of others, checks that what it names is there."""
    match shlex.split(line, comments=True):
        case ["foretrain", *words]:
            told = io.StringIO()
            with redirect_stdout(told):
                code = main([word.replace("$SLURM_ARRAY_TASK_ID", "0") for word in words])
            assert code == 0, f"{where} ended with {code}: {told.getvalue()}"
        case ["python", script, *options]:
            if not (folder / script).exists():  # else the page has had it written, and it was run
                check_script(where, script, options)
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), where
        case ["pip", "install", what]:
            extras = (ROOT / "pyproject.toml").read_text().partition("optional-dependencies]")[2]
            known = re.findall(r"^([\w-]+) = \[", extras.partition("\n[")[0], re.M)
            assert set(re.findall(r"[\w-]+", what.partition("[")[2])) <= set(known), where
        case ["tensorboard", "--logdir", _] | ["sbatch", *_]:
            pass
        case _:
            raise AssertionError(f"{where}: Expected a command that this test knows: teach it how to check.")


def check_script(where: str, script: str, options: list[str]) -> None:
    """A script of the repository is there and has the options, its own or those of a module it shares."""
    path = ROOT / script
    assert path.is_file(), where
    texts = [path.read_text()]
    imported = re.findall(r"^(?:from|import) (\w+)", texts[0], re.M)
    texts += [beside.read_text() for name in imported if (beside := path.parent / f"{name}.py").is_file()]
    known = {
        node.value
        for text in texts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {option for option in options if option.startswith("--")} <= known, where


def test_commands_within_sentences_are_understood(capsys):
    found = 0
    for page in PAGES:
        for code in inline_code(page):
            words = shlex.split(code)
            if words[:1] != ["foretrain"] or len(words) == 1:
                continue
            found += 1
            # A name of a command alone, or with an option, is asked for its help; capitals stand for numbers.
            words = ["1e9" if word in ("N", "D", "FLOPS", "ERROR") else word for word in words[1:]]
            try:
                make_parser().parse_args(words)
            except SystemExit:
                told = capsys.readouterr().err
                bare = "the following arguments are required" in told or "expected one argument" in told
                assert bare, f"{page.name}: `{code}`: {told}"
                named = list(takewhile(lambda word: not word.startswith("--"), words))
                with pytest.raises(SystemExit, match=r"^0$"):
                    make_parser().parse_args([*named, "--help"])
                told = capsys.readouterr().out
                assert [w for w in words if w.startswith("--") and w not in told] == [], (
                    f"{page.name}: `{code}`"
                )
    assert found >= 30


def test_every_block_says_what_it_is():
    for page in PAGES:
        for block in blocks(page):
            assert block.language in KNOWN, f"{block.where}: Expected one of {KNOWN} behind the fence"
            if block.language == "json":
                for record in [block.text] if block.title else block.text.splitlines():
                    assert isinstance(json.loads(record), dict), block.where
            if block.language == "yaml":
                assert isinstance(yaml.safe_load(block.text), dict), block.where


def test_what_is_made_smaller_stands_on_its_page():
    for page, pairs in SMALLER.items():
        text = "".join(block.text for block in blocks(ROOT / page))
        assert [long for long in pairs if long not in text] == []


def test_every_block_is_run():
    found = [block for page in PAGES for block in blocks(page)]
    assert [f"{block.where} ({block.not_run})" for block in found if block.not_run] == []
    assert sum(block.language == "python" for block in found) >= 20
    shells = [block for block in found if block.language in ("bash", "console")]
    assert sum(1 for block in shells for _ in commands(block)) >= 50


def test_the_readme_shows_sessions():
    told = [block.text for block in blocks(ROOT / "README.md") if ">>> " in block.text]
    assert sum(text.count(">>> ") for text in told) >= 12


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.name != "README.md"]
    missing = [page for page in pages if not re.search(rf"[ :]{re.escape(page)}$", nav, re.M)]
    assert missing == [], "Expected each page of docs/ in the navigation of mkdocs.yml"


def test_the_reference_has_every_public_name():
    """Of packages that say what is public, by `__all__` or `import X as X`; constants are in sentences."""
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    told = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)", pages, re.M)}
    missing = []
    for init in sorted((ROOT / "src" / "foretrain").rglob("__init__.py")):
        text = init.read_text()
        public = set(re.findall(r"import (\w+) as \1\b", text))
        if listed := re.search(r"^__all__ = \[(.*?)\]", text, re.M | re.S):
            public |= set(re.findall(r'"(\w+)"', listed[1]))
        missing += [f"{init.parent.name}.{name}" for name in public - told if not name.strip("_").isupper()]
    missing.remove("foretrain.__version__")
    assert sorted(missing) == [], "Expected each as `::: foretrain.PACKAGE.NAME` in a page of docs/reference/"


SHOWN = [path for path in sorted((ROOT / "src").rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize(
    "path", SHOWN, ids=[str(path.relative_to(ROOT / "src" / "foretrain")) for path in SHOWN]
)
def test_the_examples_of_docstrings_do_what_they_say(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert found.failed == 0
