"""The gradient of a window in PyTorch and JAX, as their users would write it; `python contenders.py NAME FOLDER ...`
runs one for the driver `window_gradient.py`.

Every contender computes at float32: means of all stored steps, log-ratios, closed-form second moments, adaptive alpha and
lambda, the power-mean weights, and the gradient of the surrogate by one backward pass, in which the weights are constants.
"""

import argparse
import json
import os
import sys
import time

import numpy as np

import workload


def weights_of(xp, mean, inputs):
    """Weights `[window, batch]`; `xp` has numpy's names."""
    window, batch = inputs["returns"].shape[:2]
    scale, behaviour_scale = xp.exp(-inputs["log_std"]), xp.exp(-inputs["behaviour_log_std"])[:, None, None, :]
    from_behaviour = inputs["actions"] - inputs["behaviour_mean"]
    difference = (inputs["behaviour_mean"] - mean) * scale + from_behaviour * (scale - behaviour_scale)
    total = (inputs["actions"] - mean) * scale + from_behaviour * behaviour_scale
    constant = (inputs["log_std"] - inputs["behaviour_log_std"]).sum(-1)[:, None, None]
    log_ratio = ((0.5 * (difference * total).sum(-1) + constant) * inputs["mask"]).sum(-1)
    remainder = 2 - xp.exp(2 * (inputs["log_std"] - inputs["behaviour_log_std"]))
    renyi = (inputs["behaviour_log_std"] - inputs["log_std"] - 0.5 * xp.log(remainder)).sum(-1)
    moved = ((mean - inputs["behaviour_mean"]) * behaviour_scale) ** 2 / remainder[:, None, None, :]
    exponents = ((moved.sum(-1) + renyi[:, None, None]) * inputs["mask"]).sum(-1)
    log_moment = xp.logsumexp(exponents, -1) - float(np.log(batch))
    alpha = xp.softmax(-0.5 * log_moment, -1)[:, None]
    correction = xp.minimum_one(xp.exp(-0.5 * (log_moment + float(np.log(window * batch)))))[:, None]
    return alpha / (batch * ((1 - correction) * xp.exp(log_ratio) + correction))


def surrogate_of(xp, weights, inputs):
    features = inputs["observations"]
    for index, weight in enumerate(weights):
        features = features @ weight.T
        if index + 1 < len(weights):
            features = xp.tanh(features)
    coefficients = xp.constant(weights_of(xp, xp.constant(features), inputs)[..., None] * inputs["returns"])
    precision = xp.exp(-2 * inputs["log_std"])
    log_prob = -0.5 * ((inputs["actions"] - features) ** 2 * precision).sum(-1) - inputs["log_std"].sum()
    return (coefficients * log_prob).sum()


NAMES = ["observations", "actions", "behaviour_mean", "behaviour_log_std", "log_std", "returns", "mask"]


# How `torch.compile` is asked; the last one launches everything as CUDA graphs.
PYTORCH_MODES = {"torch": None, "torch-compiled": "default", "torch-graphs": "reduce-overhead"}


def pytorch(inputs, threads, device, mode):
    import torch

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")

    class Functions:
        exp, log, tanh, softmax, logsumexp = torch.exp, torch.log, torch.tanh, torch.softmax, torch.logsumexp
        minimum_one = staticmethod(lambda x: x.clamp(max=1.0))
        constant = staticmethod(lambda x: x.detach())

    arrays = {name: torch.tensor(getattr(inputs, name), device=device) for name in NAMES}
    weights = [torch.tensor(weight, device=device, requires_grad=True) for weight in inputs.weights]
    surrogate = lambda weights, arrays: surrogate_of(Functions, weights, arrays)
    if mode is not None:
        surrogate = torch.compile(surrogate, mode=mode)

    def run():
        gradient = torch.autograd.grad(surrogate(weights, arrays), weights)
        if device == "cuda":
            torch.cuda.synchronize()
        return gradient

    return run, lambda parts: [part.cpu().numpy() for part in parts], f"torch {torch.__version__}"


def jax_jit(inputs, threads, device):
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", device)
    jax.config.update("jax_default_matmul_precision", "highest")

    class Functions:
        exp, log, tanh, softmax = jnp.exp, jnp.log, jnp.tanh, jax.nn.softmax
        logsumexp = jax.nn.logsumexp
        minimum_one = staticmethod(lambda x: jnp.minimum(x, 1.0))
        constant = staticmethod(jax.lax.stop_gradient)

    arrays = {name: jnp.asarray(getattr(inputs, name)) for name in NAMES}
    weights = [jnp.asarray(weight) for weight in inputs.weights]
    gradient = jax.jit(jax.grad(lambda weights, arrays: surrogate_of(Functions, weights, arrays)))
    run = lambda: jax.block_until_ready(gradient(weights, arrays))
    return run, lambda parts: [np.asarray(part) for part in parts], f"jax {jax.__version__}"


def make(name, inputs, threads, device):
    if name == "jax":
        return jax_jit(inputs, threads, device)
    return pytorch(inputs, threads, device, PYTORCH_MODES[name])


def main():
    """One line of JSON after the start (what it is, its first gradient's file), and one after every line `SECONDS`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=[*PYTORCH_MODES, "jax"])
    parser.add_argument("folder")
    parser.add_argument("--gradient", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    inputs = workload.Inputs(options.folder, np.float32)
    run, host, version = make(options.name, inputs, options.threads, options.device)
    # Compiled by the first calls, outside every timed region.
    for _ in range(5):
        result = run()
    np.concatenate([part.ravel() for part in host(result)]).astype("<f8").tofile(options.gradient)
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        times, start = [], time.perf_counter()
        while time.perf_counter() - start < float(line):
            before = time.perf_counter()
            run()
            times.append(time.perf_counter() - before)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
