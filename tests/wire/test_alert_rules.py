"""Prometheus takes the rules, and alerts fire for what lasts and not for a blip."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.dashboards.files import PROMETHEUS, RULES, write
from deploy.dashboards.rules import ALERTS

pytestmark = pytest.mark.wire
TESTS = Path(__file__).with_name("alerts.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "http://127.0.0.1:8000")
    return tmp_path


def _promtool(*words: object) -> None:
    tool = shutil.which("promtool")
    assert tool is not None, "promtool is missing; Debian has it in the package prometheus"
    command = [tool, *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_rules_and_configuration(folder: Path) -> None:
    _promtool("check", "rules", folder / RULES)
    _promtool("check", "config", folder / PROMETHEUS)


def test_alerts_fire_for_what_lasts_and_not_for_a_blip(folder: Path) -> None:
    shutil.copy(TESTS, folder)
    _promtool("test", "rules", folder / TESTS.name)


def test_each_alert_is_among_the_tests() -> None:
    text = TESTS.read_text()
    assert [alert.name for alert in ALERTS if alert.name not in text] == []
