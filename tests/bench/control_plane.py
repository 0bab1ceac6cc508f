"""The control plane as its clients feel it, with Debian's Slurm beside it where both can do the same.

Every job is real: durable before it is acknowledged, and a rank that is forked, executed, and hands in
a durable output. Throughput and start latency alternate with Slurm's, round by round; each round begins
on a disk that has nothing left to write, since a sync waits for what others have just written.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request

import slurm
from control_cluster import NoopCluster, goal, machine, wait_for

FULL = {"acks_one": 5_000, "acks_many": 20_000, "clients": 32, "jobs": 100_000, "pages": 200,
        "watchers": 1_000, "submits": 2_000, "watched_rounds": 5, "rounds": 5,
        "batch": 1_000, "starts": 40, "peer_starts": 8}
QUICK = {"acks_one": 500, "acks_many": 2_000, "clients": 16, "jobs": 5_000, "pages": 50,
         "watchers": 100, "submits": 300, "watched_rounds": 1, "rounds": 1,
         "batch": 100, "starts": 8, "peer_starts": 2}


def percentile(values, percent):
    """By the nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def submit(cluster, clients, jobs, prefix):
    """(acknowledged per second, [seconds of each call])"""
    lines = cluster.run_load("submit", clients, jobs, prefix, cluster.tokenizer, cluster.text,
                             timeout_s=600)
    calls = [float(words[4]) for words in lines if words[0] == "ack"]
    assert len(calls) == jobs, f"{len(calls)} of {jobs} jobs were acknowledged"
    return jobs / float(lines[-1][2]), calls


def metrics(cluster):
    with urllib.request.urlopen(f"http://127.0.0.1:{cluster.metrics_port}/metrics") as answer:
        return answer.read().decode()


def scrape(cluster):
    """(seconds, number of series)"""
    start = time.monotonic()
    text = metrics(cluster)
    return time.monotonic() - start, sum(not line.startswith("#") for line in text.splitlines())


def synced_writes(cluster):
    """Of the coordinator's store, since its start."""
    return next(float(line.split()[1]) for line in metrics(cluster).splitlines()
                if line.startswith("moe_coordinator_commit_duration_seconds_count"))


def measure_store(size):
    """What does not need a worker: acknowledgements, a long list, restart, metrics, watchers."""
    result = {}
    with NoopCluster() as cluster:
        cluster.artefacts.mkdir()
        cluster.start_coordinator()
        result["series_before"] = scrape(cluster)[1]
        result["acks_per_second_one"], _ = submit(cluster, 1, size["acks_one"], "one")
        result["acks_per_second_many"], _ = submit(cluster, size["clients"], size["acks_many"], "many")
        rest = size["jobs"] - size["acks_one"] - size["acks_many"]
        submit(cluster, size["clients"], rest, "rest")

        pages = [float(seconds) for _, jobs, seconds, _ in cluster.run_load("list", size["pages"])
                 if int(jobs) == 100]
        result["list_p99_ms"] = 1e3 * percentile(pages, 99)
        scrapes = [scrape(cluster) for _ in range(10)]
        result["metrics_ms"] = 1e3 * max(seconds for seconds, _ in scrapes)
        result["series_after"] = scrapes[-1][1]

        rounds = [watched_submits(cluster, size, i) for i in range(size["watched_rounds"])]
        for name in rounds[0]:
            result[name] = statistics.median(figures[name] for figures in rounds)

        jobs = len(cluster.jobs())
        with open(f"/proc/{cluster.processes['coordinator'].pid}/status", encoding="utf-8") as status:
            result["rss_mib"] = next(int(line.split()[1]) for line in status
                                     if line.startswith("VmRSS")) / 1024
        cluster.kill("coordinator")
        start = time.monotonic()
        cluster.start_coordinator()
        cluster.run_load("list", 1)
        result["restart_seconds"] = time.monotonic() - start
        assert len(cluster.jobs()) == jobs, "jobs are missing after the restart"
        result["jobs_at_restart"] = jobs
    return result


def watched_submits(cluster, size, number):
    """Of one client's submissions, first without watchers, then with many of all jobs."""
    _, alone = submit(cluster, 1, size["submits"], f"alone{number}-")
    # A thousand of them would not be on the coordinator's machine: it comes first.
    watchers = cluster.load("watch", size["watchers"], idle=True)
    try:
        assert watchers.stdout.readline() == "watching\n", "the watchers did not start"
        _, watched = submit(cluster, 1, size["submits"], f"watched{number}-")
        start = time.monotonic()
        _, _, _, revision = cluster.run_load("list", 1)[0]
        watchers.stdin.write(revision + "\n")
        watchers.stdin.flush()
        assert watchers.stdout.readline() == "told\n", "the watchers were not told everything"
        all_told_seconds = time.monotonic() - start
    finally:
        watchers.kill()
        watchers.communicate()
    return {"all_told_seconds": all_told_seconds,
            "submit_p99_ms": 1e3 * percentile(alone, 99),
            "submit_p99_watched_ms": 1e3 * percentile(watched, 99),
            "watched_ratio": percentile(watched, 99) / percentile(alone, 99)}


def run_batch(cluster, jobs, prefix):
    """(jobs per second from the first call to the end of the last job, the coordinator's synced
    writes for each)"""
    writes = synced_writes(cluster)
    start = time.monotonic()
    submit(cluster, 2, jobs, prefix)
    cluster.wait_all_ended()
    seconds = time.monotonic() - start
    mine = [state for name, _, state in cluster.jobs().values() if name.startswith(prefix)]
    assert mine == ["SUCCEEDED"] * jobs, f"not all of {jobs} jobs succeeded"
    return jobs / seconds, (synced_writes(cluster) - writes) / jobs


def run_array(cluster, jobs, prefix):
    """Jobs per second of one array, from the call to the end of the last job."""
    start = time.monotonic()
    cluster.run_load("array", jobs, prefix, cluster.tokenizer, cluster.text)
    cluster.wait_all_ended()
    seconds = time.monotonic() - start
    mine = [state for name, _, state in cluster.jobs().values() if name.startswith(prefix)]
    assert mine == ["SUCCEEDED"] * (jobs + 1), f"not all of {jobs} elements succeeded"
    return jobs / seconds


def start_latency(cluster, prefix):
    """Seconds from just before the call to the first act of the rank; the job has ended then."""
    words = cluster.run_load("submit", 1, 1, prefix, cluster.tokenizer, cluster.text)[0]
    job, sent = words[2], int(words[3])
    begun = wait_for(lambda: [ns for j, _, ns in cluster.starts() if j == job], f"{job} to start")
    cluster.wait_all_ended()
    return (begun[0] - sent) / 1e9


def slurm_batch(peer, jobs):
    start = time.monotonic()
    peer.submit_many(jobs, clients=2)
    peer.wait_empty()
    return jobs / (time.monotonic() - start)


def slurm_array(peer, jobs):
    start = time.monotonic()
    assert peer.sbatch("--array", f"1-{jobs}"), "Slurm refused the array"
    peer.wait_empty()
    return jobs / (time.monotonic() - start)


def slurm_start_latency(peer, number):
    stamp = peer.root / f"stamp-{number}"
    script = peer.root / "stamp.sh"
    script.write_text(f"#!/bin/sh\ndate +%s%N > {stamp}.part && mv {stamp}.part {stamp}\n")
    sent = time.time_ns()
    subprocess.run(["sbatch", "-Q", "-o", "/dev/null", str(script)], env=peer.env, check=True,
                   stdout=subprocess.DEVNULL)
    peer.wait(stamp.exists, "the job to start")
    peer.wait_empty()
    return (int(stamp.read_text()) - sent) / 1e9


def settle():
    """Slurm writes its state down within 5 seconds of a change."""
    time.sleep(6)
    os.sync()


def measure_runs(size, peer):
    """Throughput and start latency, one round of ours and one of the peer's in turn."""
    ours, theirs = ({"rate": [], "array": [], "start": []} for _ in range(2))
    writes = []
    with NoopCluster(lease_ttl_ms=30_000) as cluster:
        cluster.start(slots=64)
        for number in range(size["rounds"]):
            settle()
            rate, writes_per_job = run_batch(cluster, size["batch"], f"b{number}-")
            ours["rate"].append(rate)
            writes.append(writes_per_job)
            if peer:
                settle()
                theirs["rate"].append(slurm_batch(peer, size["batch"]))
            settle()
            ours["array"].append(run_array(cluster, size["batch"], f"a{number}-"))
            if peer:
                settle()
                theirs["array"].append(slurm_array(peer, size["batch"]))
            settle()
            ours["start"] += [start_latency(cluster, f"s{number}-{i}-") for i in range(size["starts"])]
            if peer:
                settle()
                theirs["start"] += [slurm_start_latency(peer, f"{number}-{i}")
                                    for i in range(size["peer_starts"])]

    def summary(rows):
        return {"jobs_per_second": statistics.median(rows["rate"]),
                "array_jobs_per_second": statistics.median(rows["array"]),
                "start_p50_ms": 1e3 * percentile(rows["start"], 50),
                "start_p99_ms": 1e3 * percentile(rows["start"], 99),
                "start_max_ms": 1e3 * max(rows["start"])} if rows["rate"] else None
    return {**summary(ours), "synced_writes_per_job": statistics.median(writes)}, summary(theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the jobs, one round")
    parser.add_argument("--no-slurm", action="store_true", help="do not put Slurm beside it")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL

    store = measure_store(size)
    if not options.no_slurm and slurm.install():
        with slurm.Slurm() as peer:
            ours, theirs = measure_runs(size, peer)
    else:
        print("without Slurm: jobs_per_second_vs_slurm has no value", file=sys.stderr)
        ours, theirs = measure_runs(size, None)

    # Slurm's is the faster of a call for each job and one array; ours is a call for each.
    ratio = (ours["jobs_per_second"] /
             max(theirs["jobs_per_second"], theirs["array_jobs_per_second"]) if theirs else None)
    for name, value in {**store, **ours}.items():
        print(f"{name:24}{value:12.2f}")
    for name, value in (theirs or {}).items():
        print(f"{'slurm ' + name:24}{value:12.2f}")
    goals = [
        goal("jobs_per_second_vs_slurm", ratio, 5, at_least=True),
        goal("start_p50_ms", ours["start_p50_ms"], 20),
        goal("start_p99_ms", ours["start_p99_ms"], 50),
        goal("acks_per_second_one", store["acks_per_second_one"], 1_000, at_least=True),
        goal("acks_per_second_many", store["acks_per_second_many"], 5_000, at_least=True),
        goal("restart_seconds", store["restart_seconds"], 2),
        goal("list_p99_ms", store["list_p99_ms"], 20),
        goal("metrics_ms", store["metrics_ms"], 50),
        goal("submit_p99_watched_ratio", store["watched_ratio"], 2),
    ]
    print(json.dumps({"bench": "control-plane", "quick": options.quick, "goals": goals, "store": store,
                      "ours": ours, "slurm": theirs, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
