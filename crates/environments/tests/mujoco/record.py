"""Records transitions of Gymnasium's MuJoCo environments for tests/mujoco_replay.rs.

    python -m venv gym && gym/bin/pip install gymnasium==1.4.0 mujoco==3.17.0 imageio
    gym/bin/python crates/environments/tests/mujoco/record.py

writes one file beside this script for each environment. Lines are

    start,<positions>,<velocities>                          a reset to this state
    step,<action>,<observation>,<reward>,<terminated>       a step from where the one before ended
    pose,<positions>                                        a pose, whose capsules are
    capsule,<x>,<y>,<x>,<y>                                 ends in the plane of the body
"""

import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import gymnasium
import mujoco
import numpy as np

# Environment, spread of the actions, the plane's axes. Actions beyond 1 are clipped in the dynamics, not in the cost.
ENVIRONMENTS = {
    "half-cheetah": ("HalfCheetah-v4", 1.0, (0, 2)),
    "hopper": ("Hopper-v4", 0.6, (0, 2)),
    "inverted-pendulum": ("InvertedPendulum-v4", 0.3, (0, 2)),
    "swimmer": ("Swimmer-v4", 1.0, (0, 1)),
    "walker2d": ("Walker2d-v4", 0.6, (0, 2)),
}
TRAJECTORIES = 3
STEPS = 60


def line(kind, *groups):
    values = [repr(float(value)) for group in groups for value in np.ravel(group)]
    return ",".join([kind, *values])


def pose(env, axes):
    """The moving capsules; after a step MuJoCo's frames are still those of the state before."""
    model, data = env.model, env.data
    mujoco.mj_kinematics(model, data)
    yield line("pose", data.qpos)
    for geom in range(model.ngeom):
        if model.geom_bodyid[geom] == 0:
            continue
        centre = data.geom_xpos[geom]
        half = data.geom_xmat[geom].reshape(3, 3)[:, 2] * model.geom_size[geom][1]
        yield line("capsule", (centre - half)[list(axes)], (centre + half)[list(axes)])


def record(name, spread, axes):
    env = gymnasium.make(name).unwrapped
    random = np.random.default_rng(0)
    yield f"# {name} of Gymnasium {gymnasium.__version__}, MuJoCo {mujoco.__version__}"
    for seed in range(TRAJECTORIES):
        env.reset(seed=seed)
        yield line("start", env.data.qpos, env.data.qvel)
        for _ in range(STEPS):
            # Few digits keep the file small; single precision is the type of Gymnasium's actions.
            action = np.round(spread * random.standard_normal(env.action_space.shape), 3)
            observation, reward, terminated, _, _ = env.step(action.astype(np.float32))
            yield line("step", action, observation, reward, float(terminated))
            if terminated:
                break
        yield from pose(env, axes)


for short, (name, spread, axes) in ENVIRONMENTS.items():
    path = Path(__file__).with_name(f"{short}.csv")
    path.write_text("\n".join(record(name, spread, axes)) + "\n")
    print(path.name, path.stat().st_size)
