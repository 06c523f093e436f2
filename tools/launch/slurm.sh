#!/usr/bin/env bash
# Start a door under Slurm, one task per GPU.
#   PARTITION=gpu GPUS=16 GPUS_PER_NODE=8 tools/launch/slurm.sh train configs/classification/….py [options of the door]
# SRUN_ARGS adds options of srun. Inside an existing allocation PARTITION may be left out.
set -euo pipefail
door=${1:?door: train or test}
shift
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
export MASTER_PORT=${MASTER_PORT:-29500}
# The first node of the allocation is known only inside it.
# shellcheck disable=SC2016,SC2086
exec srun ${PARTITION:+--partition="$PARTITION"} --job-name="${JOB_NAME:-internvl_mm}" --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --gres="gpu:$per_node" --cpus-per-task="${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} bash -c 'export MASTER_ADDR=${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1)}
        exec python -u "$@" --launcher slurm' _ "$(dirname "$0")/../$door.py" "$@"
