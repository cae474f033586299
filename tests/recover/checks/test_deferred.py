"""Imports that wait until they are needed, each in a process of its own: what is imported stays so."""

from __future__ import annotations

import subprocess
import sys

import pytest


def told(code: str) -> str:
    """What a Python process prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_module_that_is_put_off_is_imported_whole_when_it_is_used() -> None:
    code = (
        "import sys\n"
        "from reopen.recover.checks.deferred import deferred\n"
        "with deferred('xml.dom.minidom'):\n"
        "    from xml.dom import minidom\n"
        "before = 'xml.dom.xmlbuilder' in sys.modules\n"
        "made = minidom.parseString('<a/>').documentElement.tagName\n"
        "import xml.dom.pulldom\n"
        "print(before, made, 'xml.dom.xmlbuilder' in sys.modules, type(minidom).__name__, len(sys.meta_path))"
    )
    before, made, after, kind, finders = told(code).split()
    assert (before, made, after, kind) == ("False", "a", "True", "module")
    assert finders == told("import sys; print(len(sys.meta_path))")


def test_a_module_that_is_not_there_is_missed_at_once() -> None:
    code = (
        "from reopen.recover.checks.deferred import deferred\n"
        "with deferred('nowhere.to.be.found', 'nowhere'):\n"
        "    try:\n        import nowhere\n    except ModuleNotFoundError as error:\n        print(error.name)"
    )
    assert told(code) == "nowhere"


@pytest.mark.slow
def test_the_checks_engine_waits_for_neither_statistics_nor_pictures_and_can_use_them() -> None:
    code = (
        "import gc, sys\n"
        "from reopen.recover.checks import engine\n"
        "engine.load()\n"
        "print('scipy.stats._stats_py' in sys.modules, 'altair.vegalite' in sys.modules, gc.isenabled())\n"
        "import great_expectations as gx\n"
        "from great_expectations.expectations.core import expect_column_kl_divergence_to_be_less_than as divergence\n"
        "print(round(float(divergence.stats.entropy([0.5, 0.5], [0.25, 0.75])), 4), divergence.alt.Chart.__name__)"
    )
    assert told(code).splitlines() == ["False False True", "0.1438 Chart"]
