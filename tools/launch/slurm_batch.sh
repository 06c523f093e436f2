#!/usr/bin/env bash
# Train under sbatch, one task per GPU, and go on by itself after preemption or the time limit.
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 tools/launch/slurm_batch.sh configs/classification/….py
#   sbatch --array=0-2 … tools/launch/slurm_batch.sh CONFIG --cfg-options 'randomness.seed={task}'   (an array of seeds)
# Slurm sends SIGUSR1 two minutes before the time limit, and SIGTERM on preemption: the run saves after its running step
# and ends with status 138 or 143; this script then puts the job back into the queue, unless it was cancelled. --resume
# starts from the beginning where there is nothing yet. Submit from the checkout, or say where it is with INTERNVL_MM_ROOT.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
set -uo pipefail
config=${1:?config}
shift
task=${SLURM_ARRAY_TASK_ID:-}
# Slurm runs a copy of this script from its spool folder, so that its own place says nothing.
root=${INTERNVL_MM_ROOT:-$SLURM_SUBMIT_DIR}
# Tasks of an array share no work dir: each resumes from its own states.
work_dir=${WORK_DIR:-work_dirs/$(basename "$config" .py)}${task:+_$task}
MASTER_ADDR=${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1)}
# Jobs that share a machine need ports of their own.
MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}
export MASTER_ADDR MASTER_PORT
# Where the whole job is signalled, this shell has to outlive srun, which hands the signal to the tasks.
trap 'true' TERM USR1
# Since 22.05 srun does not take over the job's --cpus-per-task: data workers would share one core.
srun --kill-on-bad-exit=1 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
    python -u "$root/tools/train.py" "$config" --work-dir "$work_dir" --resume --launcher slurm "${@//\{task\}/${task:-0}}" &
child=$!
status=0
# wait returns early at a trapped signal, while srun still runs; of a process that ended it gives the status again.
while wait "$child"; status=$?; kill -0 "$child" 2> /dev/null; do :; done
if [[ $status -eq 138 || $status -eq 143 ]]; then
    # Of an array by its task: the number alone may be that of the whole array, whose other tasks run on.
    job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${task:-$SLURM_JOB_ID}
    # A job that runs no longer was cancelled, or Slurm, which gave no grace, has put it back itself.
    if [[ $(scontrol show job "$job") != *JobState=RUNNING* ]]; then
        echo "stopped after saving: job $job was cancelled or comes back by itself; submitted again, it goes on"
        exit "$status"
    fi
    echo "stopped by the scheduler after saving: job $job goes back into the queue"
    exec scontrol requeue "$job"
fi
exit "$status"
