#!/usr/bin/env bash
# Start a door on the devices of one machine, or as one of several machines.
#   tools/launch/torchrun.sh 8 train configs/classification/….py [options of the door]
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=host0 tools/launch/torchrun.sh 8 train …      (on host0; NODE_RANK=1 on the other)
set -euo pipefail
processes=${1:?processes per machine}
door=${2:?door: train or test}
shift 2
exec torchrun --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$processes" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${MASTER_PORT:-29500}" \
    "$(dirname "$0")/../$door.py" "$@" --launcher pytorch
