"""What the image adds to Baton besides its programs: where programs are found."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_a_login_shell_finds_baton(tmp_path: Path) -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^.*(echo \"PATH=.*) > /etc/profile\.d/baton\.sh$", text, re.M)
    assert found is not None
    profile = tmp_path / "baton.sh"
    # As /etc/profile of Debian does it.
    script = f"{found[1]} > {profile}; export PATH=/usr/bin:/bin; . {profile}; printenv PATH"
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "/usr/local/baton/bin:/usr/bin:/bin"
