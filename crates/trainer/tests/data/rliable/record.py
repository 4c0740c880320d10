"""Records case.json: what rliable, scipy and numpy say about a fixed set of scores.

    python -m venv venv && venv/bin/pip install rliable==1.2.0 arch==7.2.0 "pandas<2.3"
    venv/bin/python record.py > case.json

The scores are rounded to three decimals, so that the file is short and every reader gets the same numbers.
"""

import json

import numpy as np
import scipy.stats
from rliable import library, metrics

RESAMPLES = 20
REPLICATES = 50_000


def scores(generator, runs, shift):
    """Skewed scores [runs, tasks] of three tasks of different scale."""
    tasks = [shift + generator.gamma(2.0, 30.0, runs), generator.normal(5.0 + 0.02 * shift, 2.0, runs),
             200.0 - generator.exponential(15.0, runs)]
    return np.round(np.stack(tasks, axis=1), 3)


def main():
    generator = np.random.default_rng(2021)
    x, y = scores(generator, 10, 40.0), scores(generator, 7, 0.0)
    one_task = x[:, :1]
    aggregates = {
        "interquartile_mean": metrics.aggregate_iqm,
        "mean": metrics.aggregate_mean,
        "median_of_tasks": metrics.aggregate_median,
        "median": lambda values: np.median(values),
    }
    np.random.seed(7)  # rliable's bootstrap draws from the global generator

    case = {"x": x.T.tolist(), "y": y.T.tolist(), "replicates": REPLICATES}
    case["aggregates"] = {
        name: {"x": float(f(x)), "y": float(f(y)), "one_task": float(f(one_task))} for name, f in aggregates.items()
    }

    case["intervals"] = {}
    for name, f in aggregates.items():
        _, intervals = library.get_interval_estimates(
            {"x": x, "y": y, "one_task": one_task}, lambda values: np.array([f(values)]), reps=REPLICATES)
        case["intervals"][name] = {key: value[:, 0].tolist() for key, value in intervals.items()}

    pairs = {"pair": (x, y)}
    point, interval = library.get_interval_estimates(
        pairs, lambda a, b: np.array([metrics.probability_of_improvement(a, b)]), reps=2000)
    case["improvement"] = {"value": float(point["pair"][0]), "interval": interval["pair"][:, 0].tolist()}

    # Single resamples: which runs were drawn, and the interquartile mean of them.
    bootstrap = library.StratifiedBootstrap(x)
    resamples = []
    for _ in range(RESAMPLES):
        indices, _ = bootstrap.update_indices()
        resample = np.take_along_axis(x, indices, axis=0)
        resamples.append({"runs": indices.T.tolist(), "interquartile_mean": float(metrics.aggregate_iqm(resample))})
    case["resamples"] = resamples
    values = [resample["interquartile_mean"] for resample in resamples]
    case["percentiles"] = {str(q): float(np.percentile(values, q)) for q in (0.0, 2.5, 33.0, 50.0, 97.5, 100.0)}

    case["student_t"] = []
    for confidence in (0.5, 0.9, 0.95, 0.999):
        for values in (x[:, 0], y[:, 1], x[:2, 2]):
            error = scipy.stats.sem(values)
            lower, upper = scipy.stats.t.interval(confidence, len(values) - 1, np.mean(values), error)
            case["student_t"].append(
                {"values": values.tolist(), "confidence": confidence, "lower": float(lower), "upper": float(upper)})

    curve_x = np.array([10.0, 25.0, 30.0, 70.0, 100.0])
    curve_y = np.array([1.0, 3.5, -2.0, 8.0, 9.25])
    grid = np.linspace(10.0, 100.0, 13)
    case["curve"] = {
        "x": curve_x.tolist(), "y": curve_y.tolist(), "grid": grid.tolist(),
        "linear": np.interp(grid, curve_x, curve_y).tolist(),
        "area": float(np.trapezoid(curve_y, curve_x) / (curve_x[-1] - curve_x[0])),
    }
    print(json.dumps(case, indent=1))


main()
