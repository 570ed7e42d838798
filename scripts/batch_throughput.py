"""How much `mrirecon batch` costs beside the work itself: a batch against a plain loop over the same scans.

    python scripts/batch_throughput.py --method cs --scans 20 --slices 4 --size 96

Prints JSON: wall-clock and processor seconds of each, the throughput of the batch over that of the loop, without the
start of the program and with it, and the milliseconds that a scan takes beside its reconstruction and checks. A busy
machine spoils the wall-clock times; those of the processor, of all processes together, less.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import h5py
import numpy as np

LOOP = """
import json, sys, time
from pathlib import Path
from mrirecon.batch.inputs import find_inputs
from mrirecon.batch.scan import Machine, Settings, Workshop
source, out, method, threads = sys.argv[1:]
workshop = Workshop(Settings(method), Machine("cpu", int(threads)))
Path(out).mkdir()
start = time.perf_counter()
for number, one in enumerate(find_inputs([source], None, None)):
    workshop.reconstruct(one, Path(out) / str(number), str(number), one.signature(), 0)
print(json.dumps(time.perf_counter() - start))
"""


def main() -> None:
    """Measure in a temporary folder, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="cs")
    for name, default in (("scans", 20), ("slices", 4), ("size", 96), ("coils", 8), ("repeats", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_scans(folder / "in", options)
        runs: dict[str, list[dict[str, float]]] = {}
        for repeat in range(options.repeats):
            runs.setdefault("loop", []).append(loop(folder / "in", folder / f"loop{repeat}", options.method, cores))
            for workers in sorted({1, cores}):
                out = folder / f"batch{workers}-{repeat}"
                runs.setdefault(f"batch of {workers}", []).append(batch(folder / "in", out, options.method, workers))
    best = {name: {key: min(run[key] for run in each) for key in each[0]} for name, each in runs.items()}
    for name, numbers in best.items():
        if name != "loop":
            keys = ("seconds", "with_start", "processor")
            numbers |= {f"ratio_{key}": best["loop"][key] / numbers[key] for key in keys}
    print(json.dumps({"cores": cores, **vars(options), **best}, indent=1))


def write_scans(folder: Path, options: argparse.Namespace) -> None:
    """Simulated heads, every second line and the centre measured."""
    from mrirecon.simulation.phantom import head_phantom
    from mrirecon.simulation.scan import simulate_slices

    folder.mkdir()
    size = options.size
    mask = np.zeros(size, bool)
    mask[::2] = mask[size // 2 - 8 : size // 2 + 8] = True
    for seed in range(options.scans):
        images = head_phantom((size, size), options.slices, "t2", seed).images
        with h5py.File(folder / f"scan{seed:03}.h5", "w") as file:
            file["kspace"] = np.stack(list(simulate_slices(images, options.coils, 30.0, seed))) * mask
            file["mask"] = mask


def loop(source: Path, out: Path, method: str, threads: int) -> dict[str, float]:
    """The pipeline with all checks, one scan after the other in one process."""
    numbers, output = timed([sys.executable, "-c", LOOP, str(source), str(out), method, str(threads)])
    return numbers | {"seconds": json.loads(output)}


def batch(source: Path, out: Path, method: str, workers: int) -> dict[str, float]:
    """The command, with so many workers."""
    command = [sys.executable, "-m", "mrirecon", "batch", str(source), "-o", str(out), "--method", method]
    numbers, _ = timed([*command, "--device", "cpu", "--workers", str(workers)])
    events = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    times = {
        name: [datetime.fromisoformat(event["time"]).timestamp() for event in events if event["event"] == name]
        for name in ("begun", "done")
    }
    numbers["seconds"] = max(times["done"]) - min(times["begun"])
    if workers == 1:  # one after the other: what lies between the end of one and that of the next, but for the work
        work = [event["seconds"] for event in events if event["event"] == "done"][1:]
        ends = times["done"]
        beside = [end - before - took for before, end, took in zip(ends[:-1], ends[1:], work, strict=True)]
        numbers["beside_ms"] = 1000 * statistics.median(beside)
    return numbers


def timed(command: list[str]) -> tuple[dict[str, float], str]:
    """Wall-clock and processor seconds of a command and all its processes, and its output."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"with_start": wall, "processor": used}, output


if __name__ == "__main__":
    main()
