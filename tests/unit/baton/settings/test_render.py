"""What is shown is a valid file that means the same, and tells where each value came from."""

from pathlib import Path

import pytest

from baton.settings import keys, load
from baton.settings.render import render

OVERRIDES = {
    "router.port": 9000,
    "router.allow_origins": ["http://a", "b # c"],
    "engine.extra_args": {"x": [1, "no", None], "y": "a: b"},
    "model.served_name": "1e3",
    "cluster.run_dir": "a\nb",
    "slo.classes": {"batch": {"ttft_s": 30.0}},
    "admission.tenants": {"a": {"slo_class": "batch", "weight": 2.0}, "b": {}},
}


@pytest.mark.parametrize("only_changed", [False, True])
def test_what_is_shown_gives_the_same_settings_again(tmp_path: Path, only_changed: bool) -> None:
    loaded = load(None, {}, OVERRIDES)
    path = tmp_path / "b.yaml"
    path.write_text(render(loaded, only_changed=only_changed))
    assert load(path, {}).settings == loaded.settings


def test_every_setting_is_shown_with_meaning_and_origin() -> None:
    text = render(load(None, {"BATON_ROUTER__PORT": "9000"}))
    assert "  port: 9000  # env BATON_ROUTER__PORT" in text
    assert "  # HTTP port. 0 = any free port, shown at start-up." in text
    assert text.count("  # default\n") == len(keys.FIELDS) - 1
    assert max(map(len, text.splitlines())) <= 100


def test_only_what_was_given_is_shown() -> None:
    text = render(load(None, {"BATON_ROUTER__PORT": "8000"}), only_changed=True)
    assert [line for line in text.splitlines() if not line.lstrip().startswith("#")] == [
        "router:",
        "  port: 8000  # env BATON_ROUTER__PORT",
    ]


def test_nothing_given() -> None:
    assert render(load(None, {}), only_changed=True) == "# Every setting is at its default.\n"


def test_a_strange_file_name_cannot_end_the_comment(tmp_path: Path) -> None:
    path = tmp_path / "a\nb.yaml"
    path.write_text("router: {port: 1}\n")
    assert "a b.yaml" in render(load(path, {}), only_changed=True)
