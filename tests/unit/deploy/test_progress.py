"""Progress: lines now and then where nobody watches."""

import pytest

from deploy import progress


def test_a_log_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([100.0, 101.0, 111.0])
    monkeypatch.setattr("deploy.progress.time.monotonic", lambda: next(moments))
    with progress.watched("bench") as watched:
        watched.at(0.1, "one")
        watched.at(0.2, "too soon")
        watched.at(1.5, "three")
        watched.say("done")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["bench: 10%, one", "bench: 100%, three", "done"]
