#!/usr/bin/env bash
# A real SLURM of two nodes on this one machine, for tests and for trying a command before the cluster has it.
#
#   scripts/slurm_local.sh start DIR     as root; everything it writes lies in DIR
#   source DIR/env                       then sbatch, squeue and python run_experiment.py -m cluster=slurm … use it
#   scripts/slurm_local.sh stop DIR      ends its jobs and daemons
#
# Needs Debian's slurmctld, slurmd, slurm-client and munge. Ports and job numbers are chosen anew each time, so that
# several clusters can live on one machine. Partitions: ci, whose jobs make way for those of hi and are requeued.
set -euo pipefail

die() { echo "slurm_local: $*" >&2; exit 1; }
usage() { sed -n '3,6s/^# *//p' "$0" >&2; exit 2; }

# Three ports that nobody listens on, and a first job number: Lightning derives DDP's port from a job's number.
free_numbers() {
    python3 - <<'PY'
import random, socket
held = [socket.socket() for _ in range(3)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held), random.randrange(1000, 60000))
PY
}

write_config() {
    local dir=$1 host=$2 ctld=$3 one=$4 two=$5 first=$6
    cat >"$dir/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/munge.sock
CredType=cred/munge
FirstJobId=$first
SlurmctldPort=$ctld
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=10
MinJobAge=300
JobRequeue=1
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$one CPUs=2 CoresPerSocket=2 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$two CPUs=2 CoresPerSocket=2 RealMemory=4000 State=UNKNOWN
PartitionName=ci Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=hi Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
}

# There is no accounting here; submitit asks sacct whether a job is still there, and scontrol knows for five minutes.
write_sacct() {
    cat >"$1/bin/sacct" <<'PY'
#!/usr/bin/env python3
import re, subprocess, sys

print("JobID|State|NodeList")
for number in [sys.argv[i + 1] for i, word in enumerate(sys.argv[:-1]) if word == "-j"]:
    shown = subprocess.run(["scontrol", "show", "job", "-o", number], capture_output=True, text=True)
    for line in shown.stdout.splitlines():
        job = dict(pair.split("=", 1) for pair in re.findall(r"\b(\w+=\S*)", line))
        in_array = job.get("ArrayTaskId", "").isdigit()
        name = f"{job['ArrayJobId']}_{job['ArrayTaskId']}" if in_array else job["JobId"]
        print(f"{name}|{job['JobState']}|{job.get('NodeList', '')}")
PY
    chmod +x "$1/bin/sacct"
}

start() {
    local dir=$1 host ctld one two first
    ((EUID == 0)) || die "start it as root: munged and slurmd want to be"
    for tool in munged slurmctld slurmd sinfo python3; do
        command -v "$tool" >/dev/null || die "$tool is missing: apt-get install slurmctld slurmd slurm-client munge"
    done
    [[ ! -e $dir/slurm.conf ]] || die "$dir holds a cluster already: stop it, or choose another folder"
    mkdir -p "$dir"/{state,spool.n1,spool.n2,log,munge,bin}
    host=$(hostname -s)
    read -r ctld one two first < <(free_numbers)
    write_config "$dir" "$host" "$ctld" "$one" "$two" "$first"
    write_sacct "$dir"
    # The nodes' names resolve nowhere, and both are this machine: the ranks of a DDP job meet at 127.0.0.1.
    cat >"$dir/env" <<ENV
export SLURM_CONF=$dir/slurm.conf PATH=$dir/bin:\$PATH MASTER_ADDR=127.0.0.1
ENV
    dd if=/dev/urandom of="$dir/munge/key" bs=128 count=1 status=none
    chmod 400 "$dir/munge/key"
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/munge.sock" --pid-file="$dir/munge/munged.pid" \
        --log-file="$dir/munge/munged.log" --seed-file="$dir/munge/seed"
    export SLURM_CONF=$dir/slurm.conf
    slurmctld -i
    slurmd -N n1
    slurmd -N n2
    for _ in {1..100}; do
        [[ $(sinfo -h -o %T 2>/dev/null | sort -u) == idle ]] && { echo "source $dir/env"; return; }
        sleep 0.1
    done
    stop "$dir"
    die "the nodes did not come up; see $dir/log"
}

stop() {
    local dir=$1 file pid pids=()
    export SLURM_CONF=$dir/slurm.conf
    # First the jobs: their steps would outlive the daemons.
    scancel --state=PENDING --user="$(id -un)" 2>/dev/null || true
    scancel --signal=KILL --full --user="$(id -un)" 2>/dev/null || true
    scancel --user="$(id -un)" 2>/dev/null || true
    for _ in {1..100}; do
        [[ -z $(squeue -h 2>/dev/null) ]] && break
        sleep 0.1
    done
    for file in "$dir"/slurmd.n1.pid "$dir"/slurmd.n2.pid "$dir"/slurmctld.pid "$dir"/munge/munged.pid; do
        [[ -s $file ]] && pids+=("$(<"$file")")
    done
    ((${#pids[@]})) && kill "${pids[@]}" 2>/dev/null || true
    for pid in "${pids[@]}"; do
        for _ in {1..100}; do
            kill -0 "$pid" 2>/dev/null || continue 2
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
    rm -f "$dir/slurm.conf"
}

[[ $# == 2 ]] || usage
mkdir -p "$2"
case $1 in
start) start "$(cd "$2" && pwd)" ;;
stop) stop "$(cd "$2" && pwd)" ;;
*) usage ;;
esac
