"""The input that every contender reads, its oracle in float64, and the safetensors files between them."""

import json
import math
import struct

import numpy as np

# Window, batch, horizon, sizes of the mean network's layers, variance; all presets have no biases.
SIZES = {
    "cartpole": (8, 10, 200, [4, 1], 0.3),
    "swimmer": (4, 20, 200, [8, 32, 32, 2], 0.3),
    "half-cheetah": (8, 40, 100, [17, 32, 32, 6], 0.1),
    "long-window": (32, 80, 100, [17, 32, 32, 6], 0.1),
    "hidden-64": (8, 40, 100, [17, 64, 64, 6], 0.3),
    "hidden-256": (8, 40, 100, [17, 256, 256, 6], 2.0),
}


def save(path, tensors, metadata=None):
    """Writes a safetensors file."""
    header, data, end = ({"__metadata__": metadata} if metadata else {}), [], 0
    for name, values in tensors.items():
        kind = {"float32": "F32", "float64": "F64", "int64": "I64"}[str(values.dtype)]
        data.append(np.ascontiguousarray(values).tobytes())
        start, end = end, end + len(data[-1])
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))


def load(path):
    """Reads a safetensors file."""
    with open(path, "rb") as file:
        content = file.read()
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    kinds = {"F32": np.float32, "F64": np.float64, "I64": np.int64}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[start:end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def means(weights, observations):
    """Outputs of every layer, the observations first; tanh between layers."""
    outputs = [observations]
    for index, weight in enumerate(weights):
        output = outputs[-1] @ weight.T
        outputs.append(np.tanh(output) if index + 1 < len(weights) else output)
    return outputs


def generate(name, seed=0):
    """Tensors of a full window, and of the target policy: every batch's policy is a little different from it."""
    window, batch, horizon, layers, variance = SIZES[name]
    random = np.random.default_rng(seed)
    bounds = [math.sqrt(6 / (i + o)) for i, o in zip(layers, layers[1:])]
    target = [
        random.uniform(-bound, bound, (o, i)).astype(np.float32)
        for bound, i, o in zip(bounds, layers, layers[1:])
    ]
    log_std = np.full(layers[-1], 0.5 * math.log(variance), np.float32)
    observations = random.standard_normal((window, batch, horizon, layers[0])).astype(np.float32)
    behaviour_mean = np.empty((window, batch, horizon, layers[-1]), np.float32)
    for index in range(window):
        behaviour = [weight + 0.004 * random.standard_normal(weight.shape) for weight in target]
        behaviour_mean[index] = means(behaviour, observations[index].astype(np.float64))[-1]
    noise = random.standard_normal(behaviour_mean.shape)
    actions = (behaviour_mean + math.sqrt(variance) * noise).astype(np.float32)
    rewards = random.standard_normal((window, batch, horizon)).astype(np.float32)
    # Poles fall, cheetahs run to the end.
    first = horizon // 2 if name == "cartpole" else horizon
    lengths = random.integers(first, horizon + 1, (window, batch))
    behind = np.arange(horizon) >= lengths[..., None]
    for values in (observations, actions, behaviour_mean, rewards):
        values[behind] = 0
    trajectories = {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "lengths": lengths,
        "behaviour_mean": behaviour_mean,
        "behaviour_log_std": np.tile(log_std, (window, 1)),
    }
    policy = {f"mean.{index}.weight": weight for index, weight in enumerate(target)}
    return trajectories, policy | {"log_std": log_std}


class Inputs:
    """What a contender computes from, as numpy arrays of one float type."""

    def __init__(self, folder, dtype):
        trajectories, policy = load(f"{folder}/trajectories.safetensors"), load(f"{folder}/policy.safetensors")
        self.weights = [policy[f"mean.{index}.weight"].astype(dtype) for index in range(len(policy) - 1)]
        self.log_std = policy["log_std"].astype(dtype)
        self.observations = trajectories["observations"].astype(dtype)
        self.actions = trajectories["actions"].astype(dtype)
        self.behaviour_mean = trajectories["behaviour_mean"].astype(dtype)
        self.behaviour_log_std = trajectories["behaviour_log_std"].astype(dtype)
        self.lengths = trajectories["lengths"]
        horizon = self.observations.shape[2]
        mask = np.arange(horizon) < self.lengths[..., None]
        self.mask = mask.astype(dtype)
        # Sums of the rewards to go; they are made when a batch enters the window, and so are no part of the estimate.
        to_go = np.cumsum(trajectories["rewards"].astype(np.float64)[..., ::-1], -1)[..., ::-1]
        self.returns = (to_go * mask).astype(dtype)


def oracle(inputs):
    """The gradient (docs/method.md, equations 5, 7, 9, 12 and 13), one formula a line, in float64."""
    window, batch, horizon, action = inputs.actions.shape
    outputs = means(inputs.weights, inputs.observations.reshape(window * batch * horizon, -1))
    mean = outputs[-1].reshape(inputs.actions.shape)
    target, behaviour = np.exp(2 * inputs.log_std), np.exp(2 * inputs.behaviour_log_std)[:, None, None]
    density = lambda centre, variance: -((inputs.actions - centre) ** 2) / (2 * variance) - np.log(variance) / 2
    steps = (density(inputs.behaviour_mean, behaviour) - density(mean, target)).sum(-1)
    log_ratio = (steps * inputs.mask).sum(-1)
    excess = 2 * behaviour - target
    renyi = np.log(behaviour) - np.log(target) / 2 - np.log(excess) / 2
    renyi = renyi + (mean - inputs.behaviour_mean) ** 2 / excess
    exponents = (renyi.sum(-1) * inputs.mask).sum(-1)
    largest = exponents.max(-1, keepdims=True)
    log_moment = np.log(np.exp(exponents - largest).mean(-1)) + largest[:, 0]
    alpha = np.exp(-log_moment / 2 - np.max(-log_moment / 2))
    alpha /= alpha.sum()
    correction = np.minimum(1, np.sqrt(1 / (np.exp(log_moment) * batch * window)))
    weights = alpha[:, None] / (batch * ((1 - correction[:, None]) * np.exp(log_ratio) + correction[:, None]))
    delta = ((inputs.actions - mean) / target) * (weights[..., None] * inputs.returns)[..., None]
    delta, gradient = delta.reshape(-1, action), []
    for index in reversed(range(len(inputs.weights))):
        gradient.insert(0, delta.T @ outputs[index])
        if index > 0:
            delta = (delta @ inputs.weights[index]) * (1 - outputs[index] ** 2)
    return np.concatenate([part.ravel() for part in gradient])
