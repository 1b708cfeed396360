# One image for every process of a cluster, in two targets:
#
#   docker build --target cpu -t baton:0.1.0-cpu .     routers, the controller, Ray's head; engines on CPU
#   docker build --target gpu -t baton:0.1.0-gpu .     engines on NVIDIA GPUs
#   docker run --init --shm-size 1g -p 8000:8000 baton:0.1.0-cpu
#
# Versions are exact: deploy/container/constraints-*.txt. For the same bytes each time, name the base by its
# digest as well: --build-arg PYTHON=docker.io/library/python:3.11-slim-bookworm@sha256:...
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm

# --- the environment, built where build tools may be ------------------------------------------------

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /usr/local/baton
ENV PATH=/usr/local/baton/bin:${PATH}
WORKDIR /src

FROM build AS build-cpu
COPY scripts/install_torch_cpu.py scripts/
COPY deploy/container/constraints-cpu.txt deploy/container/
RUN python scripts/install_torch_cpu.py deploy/container/constraints-cpu.txt
# The list is complete, and leaves out torchvision and the like, whose CUDA builds break a CPU torch. Its own torch is
# the one that is here; if pip ever takes another, the build ends.
RUN pip install --no-deps -r deploy/container/constraints-cpu.txt \
    && python -c "from importlib.metadata import version as v; assert '+cpu' in v('torch'), v('torch')"
COPY . .
RUN pip install --no-deps ./client .

FROM build AS build-gpu
COPY deploy/container/constraints-gpu.txt deploy/container/
# torch names its CUDA libraries itself, all else is in the list.
RUN pip install -c deploy/container/constraints-gpu.txt torch
RUN pip install --no-deps -r deploy/container/constraints-gpu.txt && pip check
COPY . .
RUN pip install --no-deps ./client .

# --- what runs ---------------------------------------------------------------------------------------

FROM ${PYTHON} AS base
# libnuma: vLLM. procps: baton-leave. Debian keeps no older versions to pin; the base's digest dates them.
# A login shell, which KubeRay may start, sets PATH anew and then reads profile.d.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libnuma1 procps \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home --home-dir /var/lib/baton --shell /bin/bash baton \
    && echo "PATH=/usr/local/baton/bin:\$PATH" > /etc/profile.d/baton.sh
ENV PATH=/usr/local/baton/bin:${PATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0
COPY deploy/container/baton-controller deploy/container/baton-leave /usr/local/bin/
WORKDIR /var/lib/baton
STOPSIGNAL SIGTERM
EXPOSE 8000 8001
# For containers by themselves; Kubernetes asks the pods what its manifests say.
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["baton"]
CMD ["serve", "--host", "0.0.0.0"]

FROM base AS cpu
COPY --from=build-cpu /usr/local/baton /usr/local/baton
USER 1000:1000

FROM base AS gpu
# A compiler is no leftover here: Triton, which vLLM's kernels on GPUs are written in, compiles when it runs.
# The others let UCX speak to RDMA devices.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        gcc ibverbs-providers libc6-dev libibverbs1 librdmacm1 \
    && rm -rf /var/lib/apt/lists/*
# Which GPUs it sees is for whoever runs it to say: --gpus, or Kubernetes' device plugin.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-gpu /usr/local/baton /usr/local/baton
USER 1000:1000
