#!/usr/bin/env bash
# Builds the Dockerfile's image without a Docker engine and has it do a night's work: a batch of simulated scans, good
# and bad, once, again, and in watch mode; as a non-root user, on a read-only root file system, without a network.
# Needs root, and Debian's buildah and debootstrap, which stand in for the engine and for the registry that
# debian:bookworm-slim would come from. About fifteen minutes and 6 GB of disk.
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

for tool in buildah debootstrap unshare pgrep; do
    command -v "$tool" >/dev/null || fail "$tool is missing. Install it (Debian: apt install buildah debootstrap" \
        "procps), or, where there is a Docker engine, use the commands at the top of the Dockerfile instead."
done
[[ $EUID == 0 ]] || fail "needs root, for debootstrap and for buildah's chroot isolation."

work=$(mktemp -d)
builder=
cleanup() {
    for process in $(jobs -p); do kill -KILL "$process" || true; done
    [[ -z $builder ]] || buildah rm "$builder" >/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

export BUILDAH_ISOLATION=chroot CONTAINERS_REGISTRIES_CONF=$work/registries.conf
echo 'unqualified-search-registries = ["localhost"]' >"$CONTAINERS_REGISTRIES_CONF"

if ! buildah inspect --type image localhost/debian:bookworm-slim >/dev/null 2>&1; then
    step "making the base image"
    builder=$(buildah from scratch)
    root=$(buildah mount "$builder")
    debootstrap --variant=minbase bookworm "$root" >"$work/debootstrap.log" 2>&1 ||
        fail "debootstrap failed: $(tail -n 3 "$work/debootstrap.log")"
    # What the slim image leaves out, too.
    rm -rf "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    find "$root"/usr/share/{doc,info,locale,man} -type f ! -name copyright -delete
    buildah commit --quiet --rm "$builder" localhost/debian:bookworm-slim >/dev/null
    builder=
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
# Only Docker's format has room for a health check.
buildah bud --quiet --format docker --layers --pull-never "${mounts[@]}" \
    ${TORCH_INDEX+--build-arg "TORCH_INDEX=$TORCH_INDEX"} \
    --build-arg "REVISION=$(git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)" \
    --tag localhost/mrirecon --file Dockerfile . >/dev/null
builder=$(buildah from --pull-never localhost/mrirecon)
IMAGE=$(buildah mount "$builder")
facts() {
    buildah inspect --type image --format "$1" localhost/mrirecon
}
SERVED=$(facts '{{.OCIv1.Config.User}}')
export IMAGE SERVED
entrypoint=$(facts '{{index .OCIv1.Config.Entrypoint 0}}')
mapfile -t environment < <(facts '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' | sed '/^$/d')
health=$(facts '{{index .Docker.Config.Healthcheck.Test 1}}')
mkdir "$work"/{data,in,out,watched,seen}
chown "$SERVED" "$work"/{data,in,out,seen}
chmod 755 "$work"

# What docker run --read-only --tmpfs /tmp --network none -v HOST:PLACE[:ro] … does; buildah's own run needs a writable
# root. To be followed by HOST:PLACE[:ro]… -- COMMAND…, which is process 1 there.
container=(unshare --net --mount --pid --fork --kill-child bash -euc '
    mount --bind "$IMAGE" "$IMAGE"
    while [[ $1 != -- ]]; do
        IFS=: read -r host place mode <<<"$1"
        mount --bind "$host" "$IMAGE$place"
        [[ -z $mode ]] || mount -o "remount,bind,$mode" "$IMAGE$place"
        shift
    done
    mount --rbind /dev "$IMAGE/dev"
    mount -t proc proc "$IMAGE/proc"
    mount -t tmpfs -o mode=1777 tmpfs "$IMAGE/tmp"
    mount -o remount,bind,ro "$IMAGE"
    exec setpriv --no-new-privs chroot --userspec="$SERVED" "$IMAGE" env -i -C /work "${@:2}"
' bash)
inside() {
    "${container[@]}" "$work/data:/work" -- "${environment[@]}" "$@"
}

[[ $SERVED != 0* && $SERVED != root* ]] || fail "the image runs as root."
if inside touch /var/tmp/written 2>/dev/null; then fail "the root file system is not read-only."; fi

step "reading labels and list of contents"
version=$(inside "$entrypoint" --version)
[[ ${version##* } == "$(facts '{{index .OCIv1.Config.Labels "org.opencontainers.image.version"}}')" ]] ||
    fail "the image's label says another version than the program, $version."
inside python3 - <<'PYTHON'
import json
import subprocess
from importlib.metadata import distributions
from pathlib import Path

def listed(kind: str) -> set[tuple[str, str]]:
    components = json.loads(Path(f"/opt/mrirecon/sbom/{kind}.cdx.json").read_text())["components"]
    return {(one["name"], one["version"]) for one in components if "arch=source" not in one.get("purl", "")}

packages = {(one.name, one.version) for one in distributions()}
assert packages == listed("python"), packages ^ listed("python")
query = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\n"]
packages = {tuple(line.split()) for line in subprocess.check_output(query, text=True).splitlines()}
assert packages == listed("debian"), packages ^ listed("debian")
PYTHON

step "making scans, and reconstructing one"
inside "$entrypoint" simulate scans --volumes 3 --slices 2 --matrix 96,96 --coils 4 --seed 1 >/dev/null
mv "$work"/data/scans/*.h5 "$work/data"
inside "$entrypoint" reconstruct simulated_000_t2.h5 -o image.h5 --undersample equispaced --acceleration 4 --method cs
inside python3 - <<'PYTHON'
import shutil
import socket

import h5py
import numpy as np

with h5py.File("image.h5") as result:
    image = result["reconstruction"][()]
assert image.shape[0] == 2 and np.isfinite(image).all() and image.max() > 0
shutil.copy("simulated_001_t2.h5", "not_a_number.h5")
with h5py.File("not_a_number.h5", "a") as scan:
    scan["kspace"][0, 0, 40, 40] = np.nan
with h5py.File("simulated_002_t2.h5", "a") as scan:  # every second line, and those in the middle, were measured
    lines = np.arange(96)
    kspace = scan["kspace"][()]
    kspace[..., (lines % 2 == 1) & (abs(lines - 48) > 8)] = 0
    scan["kspace"][...] = kspace
try:
    socket.create_connection(("1.1.1.1", 53), timeout=3)
except OSError:
    pass
else:
    raise AssertionError("the container has a network")
PYTHON
[[ $(stat -c %u:%g "$work/data/image.h5") == "$SERVED" ]] || fail "image.h5 does not belong to the image's user."
mv "$work"/data/{simulated_00?_t2,not_a_number}.h5 "$work/in"
head -c 20000 "$work/in/simulated_001_t2.h5" >"$work/in/cut_off.h5"
cp "$work/in/simulated_000_t2.h5" "$work/in/the_same_again.h5"
head -c 5000 /dev/urandom >"$work/in/unknown.dat"
touch "$work/in/empty.h5"
echo "is no scan" >"$work/in/notes.txt"

# Arguments: folder of results, then for each scan NAME=STATE:CODE, as they must be in its summary.json.
cat >"$work/check.py" <<'PYTHON'
import hashlib
import json
import os
import sys
from pathlib import Path

out, expected = Path(sys.argv[1]), dict(argument.split("=") for argument in sys.argv[2:])
entries = {Path(one["scan"]).name: one for one in json.loads((out / "summary.json").read_text())["scans"]}
found = {name: f"{one['state']}:{one['code']}" for name, one in entries.items()}
assert found == expected, f"{found}, and it should be {expected}"
page = (out / "report.html").read_text()
for name, one in entries.items():
    assert name in page, f"{name} is not in report.html"
    assert one["reasons"] or one["state"] != "failed", f"{name} failed for no reason"
    print(f"  {name}: {one['state']} {one['verdict'] or ''} {'; '.join(one['reasons'])}")
folders = {one["folder"] for one in entries.values() if one["folder"]}
assert folders == {path.name for path in out.iterdir() if path.is_dir()}, "there is a folder of no scan"
assert len(folders) == sum(one["state"] in ("done", "kept") for one in entries.values())
for folder in folders:
    done = json.loads((out / folder / "done.json").read_text())
    assert done["verdict"] in ("OK", "REVIEW")
    assert {"reconstruction.h5", "reconstruction.nii.gz", "checks.h5", "report.html"} <= done["files"].keys()
    for name, sha256 in done["files"].items():
        assert hashlib.sha256((out / folder / name).read_bytes()).hexdigest() == sha256, f"{name} is not as written"
owners = {f"{path.stat().st_uid}:{path.stat().st_gid}" for path in out.rglob("*")}
assert owners == {os.environ["SERVED"]}, owners
PYTHON

batch() {  # folder of scans, folder of results
    "${container[@]}" "$1:/in:ro" "$2:/out" -- "${environment[@]}" "$entrypoint" batch /in -o /out
}
written() {
    find "$work/out" -mindepth 2 -printf '%p %i %T@\n' | sort
    grep '"event": "begun"' "$work/out/ledger.jsonl"
}
bad=(not_a_number.h5=failed:5 cut_off.h5=failed:5 unknown.dat=failed:5 empty.h5=failed:5 the_same_again.h5=duplicate:0)

step "a batch of three good scans, four bad ones and a copy"
code=0
batch "$work/in" "$work/out" || code=$?
[[ $code == 3 ]] || fail "the batch ended with $code, and some that fail make it 3."
python3 "$work/check.py" "$work/out" simulated_00{0,1,2}_t2.h5=done:0 "${bad[@]}"

step "the same again, which must do nothing"
written >"$work/before"
code=0
batch "$work/in" "$work/out" || code=$?
[[ $code == 3 ]] || fail "the second batch ended with $code instead of 3."
python3 "$work/check.py" "$work/out" simulated_00{0,1,2}_t2.h5=kept:0 "${bad[@]}"
written | cmp - "$work/before" || fail "the second batch did something."

step "watch mode"
until_there() {  # PATTERN
    for _ in {1..300}; do
        compgen -G "$1" >/dev/null && return
        sleep 1
    done
    fail "$1 did not come."
}
healthy() {
    nsenter --target "$first" --mount --pid --net --root --wd --setuid "${SERVED%:*}" --setgid "${SERVED#*:}" \
        env -i "${environment[@]}" sh -c "$health"
}
"${container[@]}" "$work/watched:/in:ro" "$work/seen:/out" -- "${environment[@]}" "$entrypoint" \
    batch /in -o /out --watch &
until_there "$work/seen/ledger.jsonl"
first=$(pgrep --parent $!)
healthy || fail "an idle watch is not healthy."
cp "$work/in/simulated_000_t2.h5" "$work/watched/one.h5"
until_there "$work/seen/one.h5-*/done.json"
healthy || fail "a watch is not healthy after its first scan."
kill -STOP "$first"
touch --date "3 minutes ago" "$work/seen/ledger.jsonl"
if healthy; then fail "a watch that hangs is healthy."; fi
kill -CONT "$first"
sleep 8
healthy || fail "a watch that goes on is not healthy."
cp "$work/in/simulated_001_t2.h5" "$work/watched/two.h5"
until_there "$work/seen/.work-*"
kill -TERM "$first"  # as docker stop does
code=0
wait $! || code=$?
[[ $code == 143 ]] || fail "SIGTERM ended the watch with $code instead of 143."
if compgen -G "$work/seen/.work-*" >/dev/null; then fail "SIGTERM left a half-written folder."; fi
batch "$work/watched" "$work/seen"
python3 "$work/check.py" "$work/seen" one.h5=kept:0 two.h5=done:0

step "passed; the image takes $(du -sm "$IMAGE" | cut -f1) MB"
