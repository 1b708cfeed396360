"""The command line without a cluster: parsing, settings, forms of errors, exit codes."""

import json
import os
from pathlib import Path

import pytest

from baton.errors import BatonError, Reason, StartupError, StartupFault
from deploy import cli, commands, parser
from deploy.rundir import RunDir, RunState, this_process


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def here(run_dir: Path) -> list[str]:
    return ["--set", f"cluster.run_dir={run_dir}"]


def state(pid: int, started: int, url: str | None = None) -> RunState:
    return RunState("baton", pid, started, 0.0, "local", ray_owned=True, url=url)


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["config", "show", "--help"]])
def test_help_is_no_failure(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    assert "usage: baton" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["fly"], ["serve", "--port", "x"], ["ask"], ["config"]])
def test_a_wrong_command_line_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert "usage: baton" in capsys.readouterr().err


def test_options_are_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    monkeypatch.setattr("deploy.serve.serve", lambda settings: seen.append(settings) or 0)
    words = ["serve", "--model", str(tmp_path), "--prefill", "2", "--decode", "3", "--port", "0"]
    words += ["--routers", "2", "--host", "127.0.0.2", "--device", "cpu", "--set", "model.seed=7"]
    words += ["--log-format", "json"]
    assert cli.main(words) == 0
    (settings,) = seen
    assert settings.model.path == str(tmp_path)
    assert (settings.prefill.workers, settings.decode.workers) == (2, 3)
    assert (settings.router.routers, settings.router.host, settings.router.port) == (
        2, "127.0.0.2", 0,
    )  # fmt: skip
    assert (settings.engine.device, settings.model.seed) == ("cpu", 7)
    assert settings.log.format == "json"


def test_every_shortcut_names_a_setting() -> None:
    from baton.settings.keys import FIELDS

    assert set(parser.SHORTCUTS.values()) <= set(FIELDS)


def test_dashboards_are_written_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "monitoring"
    assert cli.main(["dashboards", str(folder), "--url", "http://r.example:1/"]) == 0
    written = {str(path) for path in folder.rglob("*") if path.is_file()}
    assert written == set(capsys.readouterr().out.split())
    assert any("http://r.example:1/targets" in Path(path).read_text() for path in written)


def test_config_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "show", "--set", "router.port=9000"]) == 0
    text = capsys.readouterr().out
    assert "port: 9000" in text
    assert "object_store_mib" not in text
    assert cli.main(["config", "show", "--all"]) == 0
    assert "object_store_mib" in capsys.readouterr().out


def test_config_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "baton.yaml"
    file.write_text("router:\n  prot: 1\n")
    assert cli.main(["config", "check", "--config", str(file)]) == 2
    assert "did you mean router.port?" in capsys.readouterr().out
    assert cli.main(["config", "check"]) == 0


@pytest.mark.parametrize("text", ["router.port", "=1"])
def test_a_set_without_a_value(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "show", "--set", text]) == 2
    assert "hint: Write it like" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StartupError(StartupFault.SETTINGS_INVALID, "wrong", details=("a", "b")), 2),
        (StartupError(StartupFault.MODEL_MISSING, "wrong"), 1),
        (BatonError(Reason.NO_WORKER, "wrong"), 1),
        (ZeroDivisionError("wrong"), 1),
    ],
)
def test_errors_have_one_form(
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_args: object) -> int:
        raise error

    monkeypatch.setitem(cli._COMMANDS, "version", fail)
    assert cli.main(["version"]) == code
    text = capsys.readouterr().err
    assert text.startswith("baton: error: ")
    assert "wrong" in text
    assert "\nhint: " in text
    assert "Traceback" not in text
    cli.main(["version", "--debug"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["ask", "hello"], ["status"]])
def test_nothing_runs(
    words: list[str], here: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, *here]) == 1
    text = capsys.readouterr().err
    assert "no cluster 'baton' runs here" in text
    assert "baton serve" in text


@pytest.mark.parametrize("url", ["http://127.0.0.1:80OO", "127.0.0.1:8000", "unix:socket"])
def test_what_is_no_address(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--url", url]) == 2
    assert f"--url {url}" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["dashboards", "deploy render --profile laptop --out"])
def test_a_place_that_cannot_be_written(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert cli.main([*words.split(), str(tmp_path / "file" / "below")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_status_while_it_starts(
    here: list[str], run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    me = this_process()
    home = RunDir(run_dir)
    home.prepare()
    home.write(state(me.pid, me.started))
    assert cli.main(["status", "--json", *here]) == 1
    assert json.loads(capsys.readouterr().out)["phase"] == "starting"
    assert cli.main(["ask", "hello", *here]) == 1
    assert "still starting" in capsys.readouterr().err


def test_down_without_a_cluster(here: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down", *here]) == 0
    assert "nothing to stop" in capsys.readouterr().out


def test_down_cleans_up_after_the_dead(
    here: list[str], run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = RunDir(run_dir)
    home.prepare()
    # This process's id with another start time: the id was given away again.
    home.write(state(os.getpid(), this_process().started + 1))
    (run_dir / "ray-999999999-x").mkdir()
    (run_dir / f"ray-{os.getpid()}-x").mkdir()
    assert cli.main(["down", *here]) == 0
    assert home.read("baton") is None
    assert [path.name for path in run_dir.glob("ray-*")] == [f"ray-{os.getpid()}-x"]


def test_the_run_folder_is_private(run_dir: Path) -> None:
    run_dir.mkdir(mode=0o777)
    RunDir(run_dir).prepare()
    assert run_dir.stat().st_mode & 0o777 == 0o700


def test_a_link_is_no_run_folder(run_dir: Path, tmp_path: Path) -> None:
    run_dir.symlink_to(tmp_path)
    with pytest.raises(StartupError):
        RunDir(run_dir).prepare()


def test_half_a_state_file_is_no_state(run_dir: Path) -> None:
    home = RunDir(run_dir)
    home.prepare()
    (run_dir / "baton.json").write_text('{"pid": 1}')
    assert home.read("baton") is None


def test_version_names_ray(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.version(None) == 0
    assert "ray 2." in capsys.readouterr().out
