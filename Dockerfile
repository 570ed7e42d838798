# mrirecon in a container: non-root, no network at run time, on a read-only root file system if wished.
#
#   docker build -t mrirecon .
#   docker run --rm --read-only --tmpfs /tmp --network none -v "$PWD/scans:/in:ro" -v "$PWD/results:/out" \
#       mrirecon batch /in -o /out
#
# For an NVIDIA GPU (the driver comes from the host):
#   docker build -t mrirecon:gpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --gpus all ...

FROM debian:bookworm-slim AS runtime
# A new volume at /out takes over the owner of the folder.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --home-dir /tmp --no-create-home mrirecon \
    && install -d -o 1000 -g 1000 /in /out /work

FROM runtime AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Which Debian packages the image holds is noted before those of the build come.
RUN mkdir /runtime \
    && cp -r --parents /var/lib/dpkg /runtime \
    && apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3-venv
WORKDIR /source
COPY constraints.txt .
# torch by itself first: it is the largest part and the last to change, and only it comes from an index of its own.
RUN python3 -m venv /opt/build \
    && python3 -m venv /opt/mrirecon \
    && /opt/build/bin/pip install --no-cache-dir -c constraints.txt hatchling cyclonedx-bom==7.5.0 debsbom==0.10.2 \
    && /opt/mrirecon/bin/pip install --no-cache-dir -c constraints.txt --no-deps --extra-index-url "$TORCH_INDEX" torch
COPY . .
# Tests of libraries, and what of torch only compilers use, are a quarter of all.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/mrirecon/bin/pip install --no-cache-dir -c constraints.txt "$(echo dist/*.whl)[twix,mrd2]" \
    && /opt/mrirecon/bin/pip uninstall --yes pip \
    && cd /opt/mrirecon/lib/python3*/site-packages \
    && find . -type d -name tests -prune -exec rm -r {} + \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && rm -rf torch/include torch/test
# What is in the image, for programs that look for known weaknesses: packages of Python and of Debian.
WORKDIR /opt/mrirecon/sbom
RUN /opt/build/bin/cyclonedx-py environment --output-reproducible --spec-version 1.6 \
        --output-file python.cdx.json /opt/mrirecon/bin/python \
    && /opt/build/bin/debsbom generate --sbom-type cdx --cdx-schema-version 1.6 --root /runtime --out debian \
    && /opt/build/bin/python -c "from pathlib import Path; from cyclonedx.schema import SchemaVersion; \
from cyclonedx.validation.json import JsonStrictValidator; \
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path('debian.cdx.json').read_text()); \
assert error is None, error"

FROM runtime
COPY --from=build /opt/mrirecon /opt/mrirecon
# /tmp is the only place that is written to besides the user's own folders. USER serves a process under an id that has
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
# A batch touches the ledger that it holds open every few seconds, also while it waits for scans. Other commands hold
# none: of them there is nothing to say but that they run.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD for ledger in $(find /proc/[0-9]*/fd -lname '*/ledger.jsonl' 2>/dev/null); do \
        find -L "$ledger" -mmin -2 | grep -q . || exit 1; done
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mrirecon" \
      org.opencontainers.image.description="Accelerated-MRI reconstruction, k-space to image. Not a medical device." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
