"""Time of the whole gradient of a window: ours beside PyTorch (eager and compiled) and JAX (jitted).

    python3 -m venv peers && . peers/bin/activate
    pip install torch jax numpy
    cargo build --release --workspace --example window_gradient
    python benches/peers/window_gradient.py

Every contender is a process of its own that reads the same files, computes the same gradient at float32, and is checked
against an oracle in float64 before anything is timed; one that is not installed is left out. Then they take turns: one
after the other computes for `--seconds`, `--rounds` times, so that other work on the machine hits all alike. A round's
time is its median; the table has the median over the rounds with the least and the largest, and the ratio to ours, the
median of the ratios within a round, with the least and the largest. Raw times go to `--raw`.

Without `--device cuda` processes are bound to as many processors as they have threads. With it the peers run on the card,
PyTorch with CUDA graphs, too, and ours on every device of `--ours-devices`:

    cargo build --release --workspace --features wgpu --example window_gradient
    python benches/peers/window_gradient.py --device cuda

`--ours-passes 1 2` times both ways of our kernels beside each other.
"""

import argparse
import csv
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

# These change numpy's kernels on some machines; the oracle is to be the same everywhere.
for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(variable, None)

import numpy as np

import workload

HERE = pathlib.Path(__file__).parent
TOLERANCE = 1e-5


class Contender:
    """A process that computes when it is told to."""

    def __init__(self, name, command, folder, threads, device):
        self.name, self.result = name, f"{folder}/{name}-{threads}.f64"
        # A card is fed by threads that no option counts.
        processors = sorted(os.sched_getaffinity(0))[: threads if device == "cpu" else None]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        # JAX takes most of a card's memory otherwise.
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self.process = subprocess.Popen(
            [*command, folder, "--gradient", self.result, "--threads", str(threads), "--device", device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, processors),
        )

    def started(self):
        """Waits until it has compiled everything and written its first gradient; whether it did."""
        line = self.process.stdout.readline()
        self.version = json.loads(line)["version"] if line else None
        return self.version is not None

    def error(self, expected):
        """Distance of the first gradient from the oracle's, relative to its norm."""
        return np.linalg.norm(np.fromfile(self.result, "<f8") - expected) / np.linalg.norm(expected)

    def run(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def compare(size, threads, options, writer):
    with tempfile.TemporaryDirectory() as folder:
        trajectories, policy = workload.generate(size)
        workload.save(f"{folder}/trajectories.safetensors", trajectories)
        workload.save(f"{folder}/policy.safetensors", policy)
        expected = workload.oracle(workload.Inputs(folder, np.float64))
        candidates = []
        for device in options.ours_devices:
            for passes in (options.ours_passes if device != "cpu" else None) or [None]:
                how = ["--passes", passes] if passes else []
                name = f"ours on {device}" + (f", {passes} pass(es)" if passes else "")
                candidates.append((name, [options.ours, *how], device))
        for peer in options.peers:
            candidates.append((peer, [sys.executable, str(HERE / "contenders.py"), peer], options.device))
        contenders = []
        for contender in [Contender(name, command, folder, threads, device) for name, command, device in candidates]:
            if not contender.started():
                print(f"{contender.name} is left out: it did not start", file=sys.stderr)
                continue
            error = contender.error(expected)
            if not error < TOLERANCE:
                sys.exit(f"{contender.name}, {size}: relative distance {error:.1e} from the oracle, allowed {TOLERANCE}")
            contenders.append((contender, error))
        if not any(contender.name.startswith("ours") for contender, _ in contenders):
            sys.exit(f"nothing of ours started; is {options.ours} built, and for {' '.join(options.ours_devices)}?")
        medians = {contender.name: [] for contender, _ in contenders}
        for round_ in range(options.rounds):
            for contender, _ in contenders:
                times = contender.run(options.seconds)
                medians[contender.name].append(statistics.median(times))
                writer.writerow([size, threads, contender.name, round_, len(times), min(times), medians[contender.name][-1]])
        window, batch, horizon, layers, _ = workload.SIZES[size]
        print(f"\n{size} [{window}, {batch}, {horizon}], {'-'.join(map(str, layers))}, {threads} thread(s)\n")
        print("| | ms | least to largest | times ours | least to largest | error |\n|---|---|---|---|---|---|")
        for contender, error in contenders:
            own = medians[contender.name]
            ratios = [theirs / ours for theirs, ours in zip(own, medians[contenders[0][0].name])]
            name = f"{contender.name} ({contender.version})"
            print(
                f"| {name} | {1e3 * statistics.median(own):.3f} | {1e3 * min(own):.3f} to {1e3 * max(own):.3f} "
                f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} | {error:.1e} |",
                flush=True,
            )
            contender.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(workload.SIZES), choices=workload.SIZES)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of the CPU")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--peers", nargs="*", help="torch, torch-compiled, torch-graphs, jax")
    parser.add_argument("--ours-devices", nargs="+", choices=["cpu", "wgpu", "cuda"])
    parser.add_argument("--ours-passes", nargs="+", choices=["1", "2"], help="over the window, by the kernels of a card")
    parser.add_argument("--ours", default="target/release/examples/window_gradient")
    parser.add_argument("--raw", default="window_gradient.csv")
    options = parser.parse_args()
    on_card = options.device == "cuda"
    if options.peers is None:
        options.peers = ["torch", "torch-compiled", *(["torch-graphs"] if on_card else []), "jax"]
    options.ours_devices = options.ours_devices or ["wgpu" if on_card else "cpu"]
    print(f"{platform.platform()}, {len(os.sched_getaffinity(0))} processors, device {options.device}")
    with open(options.raw, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "threads", "contender", "round", "calls", "least_seconds", "median_seconds"])
        for size in options.sizes:
            for threads in options.threads:
                compare(size, threads, options, writer)


if __name__ == "__main__":
    main()
