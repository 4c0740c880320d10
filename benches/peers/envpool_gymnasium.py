"""Steps per second of our MuJoCo environments beside EnvPool's and Gymnasium's, with the same number of threads.

    python -m venv peers && peers/bin/pip install gymnasium mujoco==3.17.0 imageio envpool
    cargo build --release -p environments --example mujoco_throughput
    peers/bin/python benches/peers/envpool_gymnasium.py

A peer that is not installed is left out. Everybody takes turns for `--seconds`, `--rounds` times, so that other work
on the machine hits all alike; a ratio is the median of the ratios within a round. The raw numbers go to `--raw`.

Ours and EnvPool step 64 environments with random actions and reset them at the horizon of 1000. EnvPool and our
`lock-step` row hand every observation to one caller after each step; in the `free` row each thread runs its own
environments, as roll-outs do. Gymnasium has one environment on one thread, or 8 in processes of their own
(AsyncVectorEnv).
"""

import argparse
import csv
import itertools
import os
import statistics
import subprocess
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import numpy as np

TASKS = {"half-cheetah": "HalfCheetah-v4", "swimmer": "Swimmer-v4"}
ENVIRONMENTS = 64


def ours(example, task, mode, threads, seconds):
    command = [example, task, mode, str(threads), str(ENVIRONMENTS), str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rate(step, per_step, seconds):
    """Calls of `step` for a time, after a tenth of it to warm up."""
    end = time.perf_counter() + 0.1 * seconds
    while time.perf_counter() < end:
        step()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        count += per_step
    return count / (time.perf_counter() - start)


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
    return lambda seconds: rate(lambda: env.step(next(actions)), count, seconds)


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
    print("| environment | | steps/s | rtpg lock-step | rtpg free |\n|---|---|---|---|---|")
    for task in TASKS:
        contestants = runners(task, arguments)
        rates = {name: [] for name in contestants}
        for round_ in range(arguments.rounds):
            for name, run in contestants.items():
                rates[name].append(run(arguments.seconds))
                rows.append((task, name, round_, round(rates[name][-1])))
        for name, values in rates.items():
            ratios = [
                f"{statistics.median(a / b for a, b in zip(rates[f'rtpg, {mode}'], values)):.2f}x"
                for mode in ("lock-step", "free")
            ]
            print(f"| {task} | {name} | {statistics.median(values):,.0f} | {' | '.join(ratios)} |", flush=True)
    if arguments.raw:
        with open(arguments.raw, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("environment", "contestant", "round", "steps_per_second"))
            writer.writerows(rows)


if __name__ == "__main__":
    main()
