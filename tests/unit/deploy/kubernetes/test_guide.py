"""Each command of docs/kubernetes.md is run here, or is marked with what it needs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from baton import tls
from baton.settings.tls import TlsSettings
from deploy import cli, parser
from deploy.kubernetes import own_settings
from deploy.kubernetes.profiles import checked, choose
from deploy.kubernetes.render import manifests

GUIDE = Path(__file__).parents[4] / "docs" / "kubernetes.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
TEXT = GUIDE.read_text(encoding="utf-8")
COMMANDS = [body for kind, body in BLOCK.findall(TEXT) if not kind and "──►" not in body]
MARK = "# needs "


def lines(block: str) -> list[str]:
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def plain(program: str) -> list[list[str]]:
    """What can be run here, of one program."""
    found = [line for block in COMMANDS if not block.startswith(MARK) for line in lines(block)]
    return [words for line in found if (words := shlex.split(line))[0] == program]


def test_what_needs_more_says_so() -> None:
    known = {"baton", "openssl", "printf"}
    for block in COMMANDS:
        if not block.startswith(MARK):
            assert {line.split()[0] for line in lines(block)} <= known


def test_every_command_of_batons_is_understood() -> None:
    called = re.findall(r"^(?:kubectl .* -- )?(baton .*)$", "\n".join(COMMANDS), re.M)
    assert len(called) > 8
    for line in called:
        parser.build().parse_args(shlex.split(line)[1:])


def test_commands_in_a_pod_read_the_settings_there() -> None:
    inside = re.findall(r"^kubectl .* -- (baton .*)$", "\n".join(COMMANDS), re.M)
    assert len(inside) > 3
    assert [line for line in inside if f"--config {own_settings.FILE}" not in line] == []


def test_a_cluster_that_is_ended_is_cleaned_up_before_its_redis_goes() -> None:
    (block,) = (block for block in COMMANDS if "kubectl delete -k" in block)
    cluster, waits, rest, _ = lines(block)[1:]
    assert "delete rayservice,raycluster" in cluster
    assert "--for=delete raycluster" in waits
    assert rest.startswith("kubectl delete -k base")


def test_commands_that_need_nothing_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in plain("baton"):
        assert cli.main(words[1:]) == 0, words
    assert (tmp_path / "keys.json").exists()
    made = {"base", "one-node", "one-card", "rdma"}
    assert made <= {path.parent.name for path in tmp_path.glob("*/kustomization.yaml")}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_the_certificates_of_the_guide_serve_the_cluster(tmp_path: Path) -> None:
    script = "\n".join(block for block in COMMANDS if block.startswith("openssl"))
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True, capture_output=True)
    tls.check(
        TlsSettings(
            cluster_ca_path=str(tmp_path / "ca.crt"),
            cluster_cert_path=str(tmp_path / "tls.crt"),
            cluster_key_path=str(tmp_path / "tls.key"),
        )
    )


def test_the_values_of_the_guide_are_valid(tmp_path: Path) -> None:
    (text,) = (body for kind, body in BLOCK.findall(TEXT) if body.startswith("# values.yaml"))
    file = tmp_path / "values.yaml"
    file.write_text(text)
    values = choose("multi-node", file)
    assert (values.namespace, values.gpus_of("decode")) == ("llama", 2)


def test_the_certificate_of_the_guide_has_every_name_that_clients_use() -> None:
    (row,) = re.findall(r"^\| `baton-tls` \|.*$", TEXT, re.M)
    for service in manifests(choose("multi-node", None))["services"]:
        name = service["metadata"]["name"].replace("baton", "NAME", 1)
        assert f"`{name}.NAMESPACE.svc`" in row


def test_the_secrets_of_the_guide_are_those_of_the_manifests() -> None:
    named = set(re.findall(r"^\| `(baton-[a-z-]+)` \|", TEXT, re.M))
    found = yaml.safe_dump(manifests(choose("multi-node", None)))
    used = set(re.findall(r"secretName: ([\w-]+)", found))
    used |= set(re.findall(r"key: \w+(?:\.\w+)?\n\s+name: (baton-[\w-]+)", found))
    assert used == named
    assert checked({"settings": {"engine": {"device": "cpu"}}}).secrets.api_keys is None
