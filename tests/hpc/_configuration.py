"""How the Slurm for tests is configured: on this machine alone, and as quick to notice things as Slurm can be."""

import contextlib
import random
import socket
from pathlib import Path

import psutil

PARTITION = "main"
CPUS = 8
MEMORY = 6000  # MB a node: more than the machine may have, for what the tests run is small

_CONF = """\
ClusterName=lab
SlurmctldHost={host}({address})
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=15
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MailProg=/bin/true
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_min_interval=100000,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=15
KillWait=15
UnkillableStepTimeout=30
MinJobAge=600
JobRequeue=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/spool/%n.pid
SlurmdLogFile={folder}/log/%n.log
PartitionName={partition} Nodes=ALL Default=YES LLN=YES MaxTime=INFINITE DefaultTime=10 State=UP
"""
_NODE = "NodeName={name} NodeHostname={host} NodeAddr={address} Port={port} CPUs={cpus} RealMemory={memory}\n"


def write(folder: Path, nodes: tuple[str, ...]) -> tuple[int, ...]:
    """Write ``slurm.conf`` into the folder, and return the ports that it names: the controller's, then the nodes'."""
    ports = _free_ports(len(nodes) + 1)
    host = {"host": socket.gethostname().split(".")[0], "address": own_address()}
    user = psutil.Process().username()
    text = _CONF.format(**host, user=user, controller=ports[0], folder=folder, partition=PARTITION)
    for name, port in zip(nodes, ports[1:], strict=True):
        text += _NODE.format(**host, name=name, port=port, cpus=CPUS, memory=MEMORY)
    (folder / "slurm.conf").write_text(text)
    return tuple(ports)


def own_address() -> str:
    """Find where Slurm's daemons listen: at the host's name, mostly loopback; "" if that is not this machine."""
    with contextlib.suppress(OSError), socket.socket() as bound:
        address = socket.gethostbyname(socket.gethostname())
        bound.bind((address, 0))
        return address
    return ""


def _free_ports(n: int) -> list[int]:
    """Find ports that are free now, below those which the system gives away: they stay free while a daemon is down."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < n:
            port = random.SystemRandom().randrange(20000, 32000)
            bound = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                bound.bind((own_address(), port))
                found.append(port)
    return found
