# mrirecon in a container: non-root, no network at run time, on a read-only root file system if wished.
#
#   docker build -t mrirecon .
#   docker run --rm --read-only --tmpfs /tmp --network none --user "$(id -u):$(id -g)" -v "$PWD:/work" \
#       mrirecon reconstruct scan.h5 -o image.h5 --method cs
#
# For an NVIDIA GPU (the driver comes from the host):
#   docker build -t mrirecon:gpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --gpus all ...

FROM debian:bookworm-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY constraints.txt .
# torch by itself first: it is the largest part and the last to change, and only it comes from an index of its own.
RUN python3 -m venv /opt/build \
    && python3 -m venv /opt/mrirecon \
    && /opt/build/bin/pip install --no-cache-dir -c constraints.txt hatchling \
    && /opt/mrirecon/bin/pip install --no-cache-dir -c constraints.txt --no-deps --extra-index-url "$TORCH_INDEX" torch
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/mrirecon/bin/pip install --no-cache-dir -c constraints.txt "$(echo dist/*.whl)[twix,mrd2]" \
    && /opt/mrirecon/bin/pip uninstall --yes pip

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --home-dir /tmp --no-create-home mrirecon \
    && mkdir /work
COPY --from=build /opt/mrirecon /opt/mrirecon
# /tmp is the only place that is written to besides the user's own folder. USER serves a process under an id that has
# no entry in /etc/passwd (docker run --user), for which Python could not find a name.
ENV PATH=/opt/mrirecon/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    USER=mrirecon \
    TMPDIR=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["mrirecon"]
CMD ["--help"]
