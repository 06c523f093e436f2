#!/usr/bin/env bash
# Start a door on the machines of a DeepSpeed host file (lines "host slots=8"), over ssh.
#   tools/launch/deepspeed.sh hostfile train configs/classification/….py [options of the door]
# DeepSpeed's launcher sets the same environment variables as torchrun.
set -euo pipefail
hostfile=${1:?host file}
door=${2:?door: train or test}
shift 2
exec deepspeed --hostfile "$hostfile" --master_port "${MASTER_PORT:-29500}" --no_local_rank \
    "$(dirname "$0")/../$door.py" "$@" --launcher pytorch
