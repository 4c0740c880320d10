"""Steps per second of our MuJoCo environments beside EnvPool's and Gymnasium's, with the same number of threads.

    python3 -m venv peers && . peers/bin/activate
    pip install gymnasium mujoco==3.17.0 imageio envpool
    cargo build --release -p environments --example mujoco_throughput
    python benches/peers/envpool_gymnasium.py

In the active environment ours finds the same MuJoCo library as Gymnasium.

A peer that is not installed is left out. Everybody takes turns for `--seconds`, `--rounds` times, so that other work
on the machine hits all alike; a ratio is the median of the ratios within a round. On a machine that is busy otherwise,
steps per second of processor time say more than those of the wall clock. The raw numbers go to `--raw`.

Ours and EnvPool step 64 environments with random actions and reset them at the horizon of 1000. EnvPool and our
`lock-step` row hand every observation to one caller after each step; in the `free` row each thread runs its own
environments, as roll-outs do. Gymnasium has one environment on one thread, or 8 in processes of their own
(AsyncVectorEnv).
"""

import argparse
import csv
import itertools
import math
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import numpy as np

TASKS = {"half-cheetah": "HalfCheetah-v4", "swimmer": "Swimmer-v4"}
ENVIRONMENTS = 64


def children_time():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def ours(example, task, mode, threads, seconds):
    """Steps per second, and per second of processor time (which includes the start of the program)."""
    command = [example, task, mode, str(threads), str(ENVIRONMENTS), str(seconds)]
    busy = children_time()
    rate = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return rate, rate * seconds / (children_time() - busy)


def rate(step, per_step, seconds):
    """Calls of `step` for a time, after a tenth of it to warm up: steps per second, and per second of processor time."""
    end = time.perf_counter() + 0.1 * seconds
    while time.perf_counter() < end:
        step()
    start, busy, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        step()
        count += per_step
    return count / (time.perf_counter() - start), count / (time.process_time() - busy)


def envpool_runner(task, threads):
    import envpool

    pool = envpool.make(TASKS[task], env_type="gymnasium", num_envs=ENVIRONMENTS, num_threads=threads)
    actions = random_actions((ENVIRONMENTS, *pool.action_space.shape), np.float64)
    pool.reset()
    return lambda seconds: rate(lambda: pool.step(next(actions)), ENVIRONMENTS, seconds)


def random_actions(shape, dtype):
    """An endless sequence of actions made beforehand."""
    return itertools.cycle(np.random.default_rng(0).uniform(-1, 1, (512, *shape)).astype(dtype))


def gymnasium_runner(task):
    import gymnasium

    env = gymnasium.make(TASKS[task])
    actions = random_actions(env.action_space.shape, np.float32)
    env.reset(seed=0)

    def step():
        _, _, terminated, truncated, _ = env.step(next(actions))
        if terminated or truncated:
            env.reset()

    return lambda seconds: rate(step, 1, seconds)


def gymnasium_vector_runner(task, count=8):
    import gymnasium

    env = gymnasium.make_vec(TASKS[task], num_envs=count, vectorization_mode="async")
    actions = random_actions(env.action_space.shape, np.float32)
    env.reset(seed=0)
    # The work is in other processes, whose processor time is not known while they run.
    return lambda seconds: (rate(lambda: env.step(next(actions)), count, seconds)[0], math.nan)


def runners(task, arguments):
    """The contestants by name; those whose package is missing are left out by name."""
    found = {
        f"rtpg, {mode}": lambda seconds, mode=mode: ours(arguments.ours, task, mode, arguments.threads, seconds)
        for mode in ("lock-step", "free")
    }
    peers = {
        "EnvPool": lambda: envpool_runner(task, arguments.threads),
        "Gymnasium, one environment": lambda: gymnasium_runner(task),
        "Gymnasium, AsyncVectorEnv of 8": lambda: gymnasium_vector_runner(task),
    }
    for name, make in peers.items():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
    return found


def summary(kind, values, rates):
    """Median rate of a contestant, and the median ratios of ours to it; `kind` 0 is the wall clock, 1 the processor."""
    yield f"{statistics.median(value[kind] for value in values):,.0f}"
    for mode in ("lock-step", "free"):
        ratios = (mine[kind] / its[kind] for mine, its in zip(rates[f"rtpg, {mode}"], values))
        yield f"{statistics.median(ratios):.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    parser.add_argument("--ours", default=f"{target}/release/examples/mujoco_throughput", help="our example")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--raw", help="CSV file for every single measurement")
    arguments = parser.parse_args()

    rows = []
    print("| environment | | steps/s | lock-step / it | free / it | steps per CPU second | lock-step / it | free / it |")
    print("|---|---|---|---|---|---|---|---|")
    for task in TASKS:
        contestants = runners(task, arguments)
        rates = {name: [] for name in contestants}
        for round_ in range(arguments.rounds):
            for name, run in contestants.items():
                rates[name].append(run(arguments.seconds))
                rows.append((task, name, round_, *rates[name][-1]))
        for name, values in rates.items():
            cells = [cell for kind in (0, 1) for cell in summary(kind, values, rates)]
            print(f"| {task} | {name} | {' | '.join(cells)} |", flush=True)
    if arguments.raw:
        with open(arguments.raw, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("environment", "contestant", "round", "steps_per_second", "steps_per_cpu_second"))
            writer.writerows(rows)


if __name__ == "__main__":
    main()
