"""The examples of the README, as they stand there."""

import doctest
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_examples_do_what_they_say():
    found = doctest.testfile(str(README), module_relative=False)
    assert found.attempted >= 12
    assert found.failed == 0
