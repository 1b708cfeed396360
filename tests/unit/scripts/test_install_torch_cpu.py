"""An image gets the torch of its list, whatever newer one a package index offers."""

from __future__ import annotations

import subprocess

import check_deploy
import install_torch_cpu
import pytest


def test_the_image_asks_for_the_version_of_its_list(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
        asked.append(arguments[-1])
        return subprocess.CompletedProcess([], 1, "", "")

    monkeypatch.setattr(install_torch_cpu, "pip", pip)
    monkeypatch.setattr(install_torch_cpu, "installed_version", lambda: "")
    listed = check_deploy.PROGRAMS / "constraints-cpu.txt"
    assert install_torch_cpu.main(str(listed)) == 1
    assert asked == [f"torch=={check_deploy._pinned('cpu')['torch']}"] * 2
    assert f"install_torch_cpu.py {listed.relative_to(check_deploy.ROOT)}" in (
        check_deploy.ROOT / "Dockerfile"
    ).read_text(encoding="utf-8")
    asked.clear()
    install_torch_cpu.main()
    assert asked == [install_torch_cpu.REQUIREMENT] * 2
