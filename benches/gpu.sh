#!/usr/bin/env bash
# What docs/performance.md says of a GPU, measured on this machine: bash benches/gpu.sh [cuda|wgpu] > gpu.txt
# Some ten minutes beside the builds. The peers need `pip install torch jax[cuda13] numpy` in the python of the path (or in $PYTHON)
# and an NVIDIA card; a peer that does not start is left out.
set -euo pipefail
cd "$(dirname "$0")/.."

backend=${1:-cuda}
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cargo build --locked --release --workspace --features "$backend"
cargo build --locked --release --workspace --features "$backend" --example window_gradient
rtpg=${CARGO_TARGET_DIR:-target}/release/rtpg

echo "=== $(git rev-parse --short HEAD), $backend, $(date -u +%F)"
"$rtpg" devices

echo; echo "=== errors of the kernels"
"$rtpg" doctor --device "$backend"

echo; echo "=== gradient of a window: both ways, beside the peers"
"$python" benches/peers/window_gradient.py --device cuda --ours-devices "$backend" --ours-passes 1 2 --threads 8 \
    --rounds 3 --seconds 0.3 --ours "${CARGO_TARGET_DIR:-target}/release/examples/window_gradient" --raw "$scratch/raw.csv"

echo; echo "=== steps of the roll-outs' kernel"
cargo bench --locked --features "$backend" --bench roll_out -- "roll-out/$backend" 2> /dev/null | grep -E "^roll-out|thrpt:"

echo; echo "=== steps of a whole iteration, CartPole, 32x32, 16384 trajectories; iterations 101 to 200"
for window in 1 8; do
    "$rtpg" train --device "$backend" --set 'policy.hidden=[32,32]' --set policy.initialization=xavier-uniform \
        --set algorithm.batch_size=16384 --set algorithm.window=$window --set iterations=200 --set evaluation.interval=0 \
        --set checkpoint.iterations=0 --set checkpoint.seconds=0 --set optimizer.learning_rate=0.01 --out "$scratch/$window" \
        > /dev/null
    awk -F, -v window=$window '
        NR == 1    { for (i = 1; i <= NF; i++) column[$i] = i; next }
                   { steps = $column["env_steps_total"]; seconds = $column["seconds_total"] }
        $1 == 100  { first_steps = steps; first_seconds = seconds }
        END        { printf "window %d: %.1f million steps a second\n", window,
                            (steps - first_steps) / (seconds - first_seconds) / 1e6 }
    ' "$scratch/$window/metrics.csv"
done
