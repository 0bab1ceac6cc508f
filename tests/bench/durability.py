"""kill -9 of the real daemons at random moments under load: is every promise kept?

Clients submit without pause; at a random moment the victim is killed, then started again; the
clients carry on with the same request ids. In the end every job must have run, and three records are
compared that know nothing of each other: what the clients were told, what the coordinator has, and
what the ranks wrote down when they started.

    acknowledged_jobs_lost   told to a client, and not there any more (or there under another name)
    ids_reused               one id told for two jobs, or two ids for one job
    attempts_doubled         an attempt that started twice, or more attempts started than there were
    attempts_lost            a job that succeeded though no rank of its last attempt ever started
"""
import argparse
import collections
import json
import random
import sys
import threading
import time

import slurm
from control_cluster import NoopCluster, goal, machine

CLIENTS = 4
VICTIMS = {"coordinator": ("coordinator",), "worker": ("w1",), "both": ("coordinator", "w1")}


def count_broken_promises(acks, jobs, starts):
    """`acks`: [(name, id)] as clients were told; `jobs`, `starts`: as of NoopCluster."""
    names_of, ids_of = collections.defaultdict(set), collections.defaultdict(set)
    for name, job in acks:
        names_of[job].add(name)
        ids_of[name].add(job)
    started = collections.Counter((job, attempt) for job, attempt, _ in starts)
    attempts_of = collections.Counter(job for job, _ in started)
    return {
        "acknowledged_jobs_lost": sum(jobs.get(job, ("",))[0] != name for name, job in set(acks)),
        "ids_reused": sum(len(names) > 1 for names in names_of.values()) +
                      sum(len(ids) > 1 for ids in ids_of.values()) +
                      len(jobs) - len({name for name, _, _ in jobs.values()}),
        "attempts_doubled": sum(count - 1 for count in started.values()) +
                            sum(attempts_of[job] > attempt for job, (_, attempt, _) in jobs.items()),
        "attempts_lost": sum(state == "SUCCEEDED" and (job, attempt) not in started
                             for job, (_, attempt, state) in jobs.items()),
    }


def storm(cluster, rng, victims, kills, jobs_per_kill):
    """Returns what the clients were told."""
    acks = []
    for kill in range(kills):
        load = cluster.submit_load(CLIENTS, jobs_per_kill, f"k{kill}")
        flowing, told = threading.Event(), []

        def listen(load=load, flowing=flowing, told=told):
            with load.stdout:
                for line in load.stdout:
                    words = line.split()
                    if words[0] == "ack":
                        told.append((words[1], words[2]))
                        flowing.set()

        listener = threading.Thread(target=listen)
        listener.start()
        assert flowing.wait(60), "no job was acknowledged in 60 s"
        # The random moment is the point of the test; nothing waits for a state here.
        time.sleep(rng.uniform(0, 0.12))
        for name in victims:
            cluster.kill(name)
        if "coordinator" in victims:
            cluster.start_coordinator()
        if "w1" in victims:
            cluster.start_worker(slots=8)
        listener.join(timeout=120)
        assert load.wait(timeout=10) == 0, "the clients gave up"
        assert len(told) == jobs_per_kill, f"{len(told)} of {jobs_per_kill} submissions were answered"
        acks += told
    return acks


def run(victim, kills, seed, jobs_per_kill=60):
    with NoopCluster(lease_ttl_ms=30_000) as cluster:
        cluster.start(slots=8)
        acks = storm(cluster, random.Random(seed), VICTIMS[victim], kills, jobs_per_kill)
        cluster.wait_all_ended()
        jobs = cluster.jobs()
        broken = count_broken_promises(acks, jobs, cluster.starts())
        states = collections.Counter(state for _, _, state in jobs.values())
        return {"kills": kills, "acknowledged": len(acks), **broken,
                "not_succeeded": len(jobs) - states["SUCCEEDED"],
                "attempts": sum(attempt for _, attempt, _ in jobs.values())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 kills of each instead of 200")
    parser.add_argument("--kills", type=int, help="kills of each victim")
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=list(VICTIMS))
    parser.add_argument("--no-slurm", action="store_true", help="do not put Slurm beside it")
    options = parser.parse_args()
    kills = options.kills or (10 if options.quick else 200)

    columns = ["kills", "acknowledged", "acknowledged_jobs_lost", "ids_reused", "attempts_doubled",
               "attempts_lost", "not_succeeded"]
    print(f"seed {options.seed}\n{'':12}" + "".join(f"{c:>24}" for c in columns))
    results = {}
    for victim in options.victims:
        row = results[victim] = run(victim, kills, options.seed)
        print(f"{victim:12}" + "".join(f"{row[c]:>24}" for c in columns), flush=True)
    beside = None if options.no_slurm else slurm.durability(kills=3 if options.quick else 20)
    if beside:
        print(f"{'slurmctld':12}" + "".join(f"{beside.get(c, '-'):>24}" for c in columns))
    total = {c: sum(row[c] for row in results.values()) for c in columns}
    goals = [goal("kills", min(row["kills"] for row in results.values()), 200, at_least=True)]
    goals += [goal(name, total[name], 0) for name in
              ("acknowledged_jobs_lost", "ids_reused", "attempts_doubled", "attempts_lost",
               "not_succeeded")]
    print(json.dumps({"bench": "durability", "goals": goals, "results": results, "slurm": beside,
                      "machine": machine()}))
    return 0 if all(g["met"] for g in goals if g["name"] != "kills") else 1


if __name__ == "__main__":
    sys.exit(main())
