#!/usr/bin/env bash
# Start a door on the devices of one machine, or as one of several machines.
#   tools/launch/torchrun.sh 8 train configs/classification/….py [options of the door]
#   NNODES=2 MASTER_ADDR=host0 MAX_RESTARTS=3 tools/launch/torchrun.sh 8 train CONFIG --resume     (the same on each machine)
# With MAX_RESTARTS a process that dies is started anew with all others, and a machine that died and is started again
# joins those that wait; with --resume they go on from the last checkpoint (docs/multi_node.md).
set -euo pipefail
# Else the living machine names its address for the first meeting only, and one that joins later waits for it in vain.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
processes=${1:?processes per machine}
door=${2:?door: train or test}
shift 2
exec torchrun --nnodes="${NNODES:-1}" --nproc-per-node="$processes" --max-restarts="${MAX_RESTARTS:-0}" \
    --rdzv-backend=c10d --rdzv-id="${RUN_ID:-internvl_mm}" \
    --rdzv-endpoint="${MASTER_ADDR:-127.0.0.1}:${MASTER_PORT:-29500}" \
    "$(dirname "$0")/../$door.py" "$@" --launcher pytorch
