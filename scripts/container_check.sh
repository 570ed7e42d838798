#!/usr/bin/env bash
# Builds the Dockerfile's image without a Docker engine and reconstructs a simulated scan in it: as a non-root user, on a
# read-only root file system, without a network. Needs root, and Debian's buildah and debootstrap, which stand in for
# the engine and for the registry that debian:bookworm-slim would come from. About ten minutes and 6 GB of disk.
#
#   scripts/container_check.sh
#
# pip and apt inside the build use this machine's settings; they are mounted, not written into the image.
# TORCH_INDEX in the environment replaces the Dockerfile's build argument of that name.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "container_check: $*" >&2
    exit 1
}

step() {
    echo "container_check: $* (${SECONDS} s)" >&2
}

for tool in buildah debootstrap unshare; do
    command -v "$tool" >/dev/null || fail "$tool is missing. Install it (Debian: apt install buildah debootstrap), or," \
        "where there is a Docker engine, use the commands at the top of the Dockerfile instead."
done
[[ $EUID == 0 ]] || fail "needs root, for debootstrap and for buildah's chroot isolation."

work=$(mktemp -d)
container=
cleanup() {
    [[ -z $container ]] || buildah rm "$container" >/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

export BUILDAH_ISOLATION=chroot CONTAINERS_REGISTRIES_CONF=$work/registries.conf
echo 'unqualified-search-registries = ["localhost"]' >"$CONTAINERS_REGISTRIES_CONF"

if ! buildah inspect --type image localhost/debian:bookworm-slim >/dev/null 2>&1; then
    step "making the base image"
    container=$(buildah from scratch)
    debootstrap --variant=minbase bookworm "$(buildah mount "$container")" >"$work/debootstrap.log" 2>&1 ||
        fail "debootstrap failed: $(tail -n 3 "$work/debootstrap.log")"
    buildah commit --quiet --rm "$container" localhost/debian:bookworm-slim >/dev/null
    container=
fi

# This machine's package settings, and the local files that they name (certificates, folders of wheels), which appear
# under /run/host in the build.
mkdir "$work/settings"
apt-config dump | grep -E '^Acquire::([A-Za-z-]+|https?::.*) "' >"$work/settings/apt.conf"
settings=$(python3 -m pip config list | sed -nE "s/^(:env:|global)\.([a-z-]+)='(.*)'$/\2 = \3/p" | awk '!seen[$1]++')
printf '[global]\n%s\n' "$settings" | sed -E 's#( |file://)/#\1/run/host/#g' >"$work/settings/pip.conf"
mounts=(
    --volume "$work/settings/apt.conf:/etc/apt/apt.conf.d/99host:ro"
    --volume "$work/settings/pip.conf:/etc/pip.conf:ro"
)
# The files of a local package index lie beside its folder "simple".
for path in $(grep -oE '( |file://)/[^ ]+' <<<"$settings" | sed -E 's#^( |file://)##; s#/simple$##' | sort -u); do
    mounts+=(--volume "$path:/run/host$path:ro")
done

step "building the image"
buildah bud --quiet --layers --pull-never "${mounts[@]}" ${TORCH_INDEX+--build-arg "TORCH_INDEX=$TORCH_INDEX"} \
    --tag localhost/mrirecon --file Dockerfile . >/dev/null

# What docker run --read-only --tmpfs /tmp --network none -v DATA:/work does; buildah's own run needs a writable root.
container=$(buildah from --pull-never localhost/mrirecon)
image=$(buildah mount "$container")
facts() {
    buildah inspect --type image --format "$1" localhost/mrirecon
}
user=$(facts '{{.OCIv1.Config.User}}')
entrypoint=$(facts '{{index .OCIv1.Config.Entrypoint 0}}')
mapfile -t environment < <(facts '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' | sed '/^$/d')
mkdir "$work/data"
chown "$user" "$work/data"
chmod 755 "$work"

inside() {
    IMAGE=$image DATA=$work/data unshare --net --mount bash -euc '
        mount --bind "$IMAGE" "$IMAGE"
        mount --bind "$DATA" "$IMAGE/work"
        mount --rbind /dev "$IMAGE/dev"
        mount --bind /proc "$IMAGE/proc"
        mount -t tmpfs -o mode=1777 tmpfs "$IMAGE/tmp"
        mount -o remount,bind,ro "$IMAGE"
        exec chroot --userspec="$1" "$IMAGE" env -i -C /work "${@:2}"
    ' bash "$user" "${environment[@]}" "$@"
}

[[ $user != 0* && $user != root* ]] || fail "the image runs as root."
if inside touch /var/tmp/written 2>/dev/null; then fail "the root file system is not read-only."; fi

step "reconstructing a simulated scan"
inside "$entrypoint" --version
inside "$entrypoint" simulate scan.h5 --slices 2 --matrix 128,128 --coils 4
inside "$entrypoint" reconstruct scan.h5 -o image.h5 --undersample equispaced --acceleration 4 --method cs --json
inside python3 - <<'PYTHON'
import socket

import h5py
import numpy as np

with h5py.File("scan.h5") as scan, h5py.File("image.h5") as result:
    image = result["reconstruction"][()]
    slices = len(scan["kspace"])
assert image.ndim == 3 and len(image) == slices, image.shape
assert np.isfinite(image).all() and image.max() > 0
try:
    socket.create_connection(("1.1.1.1", 53), timeout=3)
except OSError:
    pass
else:
    raise AssertionError("the container has a network")
PYTHON
[[ $(stat -c %u:%g "$work/data/image.h5") == "$user" ]] || fail "image.h5 does not belong to the image's user."
step "passed; the image's size on disk is $(du -sh "$image" | cut -f1)"
