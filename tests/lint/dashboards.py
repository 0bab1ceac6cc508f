#!/usr/bin/env python3
"""Lints dashboards/*.json after the rules of Grafana's dashboard-linter, and lists their queries.

    tests/lint/dashboards.py                     lint
    tests/lint/dashboards.py --metrics FILE      and: every metric used is one that FILE lists
                                                 (the output of `moe-coordinator --dump-metrics`)
    tests/lint/dashboards.py --queries           print "dashboard<TAB>panel<TAB>query" for a live test
"""
import argparse
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORDS = set("""sum avg max min count rate increase irate by without on ignoring group_left group_right
histogram_quantile clamp_min clamp_max topk bottomk time vector scalar label_replace or and unless offset
bool abs sort sort_desc changes delta deriv le inf nan last_over_time max_over_time min_over_time
avg_over_time""".split())


def panels_of(dashboard):
    for panel in dashboard.get("panels", []):
        yield panel
        yield from panel.get("panels", [])


def expand(query: str) -> str:
    """A query as Prometheus sees it, with "all" for every variable."""
    query = query.replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$__interval", "15s")
    return re.sub(r"\$\{?[a-z_]+\}?", ".+", query)


def metrics_in(query: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", query)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    return {w for w in re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", bare) if w not in WORDS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics")
    parser.add_argument("--queries", action="store_true")
    options = parser.parse_args()

    known = None
    if options.metrics:
        known = {line.split()[0] for line in pathlib.Path(options.metrics).read_text().splitlines() if line}
        known |= {f"{m}{s}" for m in list(known) for s in ("_bucket", "_sum", "_count")} | {"up"}

    problems, uids, num_queries = [], {}, 0
    files = sorted((ROOT / "dashboards").glob("*.json"))
    for path in files:
        dashboard = json.loads(path.read_text())
        name = path.name
        if dashboard.get("id") is not None:
            problems.append(f"{name}: id must be null")
        uid = dashboard.get("uid")
        if not uid or uid in uids:
            problems.append(f"{name}: uid missing, or the same as in {uids.get(uid)}")
        uids[uid] = name
        if dashboard.get("editable", True):
            problems.append(f"{name}: editable must be false")
        variables = dashboard.get("templating", {}).get("list", [])
        sources = [v for v in variables if v.get("type") == "datasource"]
        if [v.get("name") for v in sources] != ["datasource"]:
            problems.append(f"{name}: needs exactly one data-source variable, called datasource")
        ids = [p.get("id") for p in panels_of(dashboard)]
        if len(ids) != len(set(ids)):
            problems.append(f"{name}: panel ids repeat")
        for panel in panels_of(dashboard):
            if panel.get("type") == "row":
                continue
            title = panel.get("title", "")
            where = f"{name}: panel '{title or panel.get('id')}'"
            if not title or not panel.get("description"):
                problems.append(f"{where}: needs title and description")
            if panel.get("type") in ("timeseries", "stat", "gauge", "heatmap") and \
                    not panel.get("fieldConfig", {}).get("defaults", {}).get("unit"):
                problems.append(f"{where}: needs a unit")
            if panel.get("datasource", {}).get("uid") != "${datasource}":
                problems.append(f"{where}: must use ${{datasource}}")
            targets = panel.get("targets", [])
            if not targets:
                problems.append(f"{where}: has no query")
            for target in targets:
                num_queries += 1
                query = target.get("expr", "")
                if options.queries:
                    print(f"{name}\t{title}\t{expand(query)}")
                if known is not None:
                    for metric in sorted(metrics_in(query) - known):
                        problems.append(f"{where}: {metric} is not a metric of ours")
                if re.search(r"_total\b", query) and not re.search(r"rate|increase|changes", query) and \
                        panel.get("type") != "stat":
                    problems.append(f"{where}: a counter needs rate() or increase()")
    if options.queries:
        return 0
    for problem in problems:
        print(problem)
    print(f"dashboards: {len(files)} files, {num_queries} queries, {len(problems)} problems")
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main())
