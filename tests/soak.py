# SPDX-License-Identifier: BSD-3-Clause
"""Goes round the parts of a soak until its time is over, and adds up their figures. Called by soak.sh."""
import argparse
import json
import os
import random
import re
import shlex
import subprocess
import sys
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def last_json(text):
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    return {}


def sim_figures(name, text):
    seen = last_json(text)
    figures = {f"{name} states": seen.get("states", 0), f"{name} distinct states": seen.get("distinct", 0)}
    if "calls" in seen:
        figures[f"{name} schedules"] = seen.get("seeds", 0)
    for what, nr in seen.get("damaged", {}).items():
        figures["damaged images: " + what.replace("_", " ")] = nr
    return figures


def sum_of(pattern, text):
    return sum(int(x) for x in re.findall(pattern, text, re.M))


class Part:
    """One part: what a turn runs, for about how long, and what its output says."""

    def __init__(self, name, argv, figures, env=None, seconds=60, limit_s=1800, needs=None):
        self.name, self.argv, self.figures = name, argv, figures
        self.env, self.seconds, self.limit_s, self.needs = env or {}, seconds, limit_s, needs
        self.turns = self.spent_s = self.findings = self.skipped = 0


def parts(build):
    bin_dir = os.path.join(build, "bin")
    system = os.path.join(SOURCE, "tests", "system")

    def sim(name, program, *more, seconds=60):
        return Part(name, [f"{bin_dir}/{program}", "--seconds", str(seconds), "--seed", "{seed}", "--json", *more],
                    lambda text: sim_figures(name, text), seconds=seconds)

    def script(name, file, env, figures, seconds=60):
        return Part(name, ["sh", f"{system}/{file}"], figures, env=env, seconds=seconds)

    return [
        sim("crash", "pcache-crash-sim", "--no-shrink"),
        sim("crash-deep", "pcache-crash-sim", "--no-shrink", "--depth", "3", seconds=30),
        sim("sched", "pcache-sched-sim", seconds=60),
        Part("batch", [f"{bin_dir}/pcache-batch-sim", "--seconds", "30", "--seed", "{seed}", "--json"], lambda text: {
            "large batches": json.loads(text)["cases"], "batch states": json.loads(text)["states"]}, seconds=30),
        Part("faults", [f"{bin_dir}/pcache-fault-matrix"], lambda text: {
            "faults injected: " + " ".join(title.split()): int(nr)
            for title, nr in re.findall(r"^([A-Z][^|\n]*)\n\n\|(?:.|\n)*?^(\d+) injections", text, re.M)}),
        Part("kill", [f"{bin_dir}/test_system_kill_threads"], lambda text: {
            "kills under threads": sum_of(r": (\d+) kills", text), "requests before kills": sum_of(r"kills, (\d+) requests", text)},
            env={"PCACHE_KILL_CYCLES": "40", "PCACHE_KILL_SEED": "{seed}"}),
        script("freeze", "test_freeze.sh", {"FREEZES": "3", "FREEZE_SEED": "{seed}"}, lambda text: {"rounds of frozen copies (24 each)": 1}),
        script("churn", "test_churn.sh", {"CHURN_BYTES": "512M", "CHURN_SEED": "{seed}"}, lambda text: {"churn runs (640 MiB each)": 1}),
        script("nbd-kill", "test_nbd_kill.sh", {"NBD_KILL_CYCLES": "4", "NBD_KILL_SEED": "{seed}"}, lambda text: {
            "rounds of kills through NBD": 1}),
        script("fio", "test_fio.sh", {"FIO_BYTES": "64M", "FIO_KILLS": "3"}, lambda text: {"rounds of fio verify": 1}),
        Part("fuzz", ["sh", f"{SOURCE}/tests/fuzz/run.sh", "20"], lambda text: {
            "fuzz executions: " + target: int(nr) for target, nr in re.findall(r"^(\w+): (\d+) executions", text, re.M)},
            seconds=120, needs=f"{SOURCE}/tests/fuzz/run.sh"),
    ]


def run(part, seed, out_dir, build):
    def fill(text):
        return text.replace("{seed}", str(seed))

    argv = [fill(word) for word in part.argv]
    env = {name: fill(value) for name, value in part.env.items()}
    began = time.monotonic()
    try:
        done = subprocess.run(argv, env={**os.environ, **env, "PCACHE_BIN_DIR": f"{build}/bin", "PCACHE_SOURCE_DIR": SOURCE},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=part.limit_s, check=False)
        status, text = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        status, text = 124, (late.stdout or b"").decode(errors="replace") + f"\nno end after {part.limit_s} s\n"
    part.turns += 1
    part.spent_s += time.monotonic() - began
    if status == 77:
        part.skipped += 1
        return {}
    if status != 0:
        part.findings += 1
        file = os.path.join(out_dir, f"finding-{part.name}-{seed}.txt")
        with open(file, "w") as f:
            print(shlex.join([*(f"{name}={value}" for name, value in env.items()), *argv]), f"# ended with {status}", text, sep="\n", file=f)
        print(f"FINDING: {file}", flush=True)
    return part.figures(text)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("minutes", type=int)
    args.add_argument("parts", nargs="*")
    args.add_argument("--build", required=True)
    args.add_argument("--out", required=True)
    args = args.parse_args()
    build = os.path.abspath(args.build)
    todo = [part for part in parts(build) if (not args.parts or part.name in args.parts) and (part.needs is None or os.path.exists(part.needs))]
    unknown = set(args.parts) - {part.name for part in parts(build)}
    if unknown or not todo:
        sys.exit(f"no such part: {', '.join(sorted(unknown)) or '-'}; there are {', '.join(part.name for part in parts(build))}")
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1, 1 << 31))
    first_seed, sums = seed, {}
    began = time.monotonic()
    end = began + 60 * args.minutes
    print(f"seeds from {first_seed} on", flush=True)
    # Whoever has had the least time for what a turn takes is next; so all get their turns, however long those are.
    while time.monotonic() < end:
        part = min(todo, key=lambda p: p.spent_s / p.seconds)
        for name, nr in run(part, seed, args.out, build).items():
            sums[name] = sums.get(name, 0) + nr
        seed += 100000
    elapsed_s = time.monotonic() - began
    for part in todo:
        if part.name in ("crash", "sched") and part.spent_s:
            sums[f"{part.name} states a minute"] = round(60 * sums.get(f"{part.name} states", 0) / part.spent_s)
    findings = sum(part.findings for part in todo)
    print(f"\n| part | turns | minutes | findings |\n|---|---:|---:|---:|")
    for part in todo:
        print(f"| {part.name}{' (skipped)' if part.skipped else ''} | {part.turns} | {part.spent_s / 60:.1f} | {part.findings} |")
    print("\n| figure | seen |\n|---|---:|")
    for name, nr in sorted(sums.items()):
        print(f"| {name} | {nr:,} |")
    print(f"| hours soaked | {elapsed_s / 3600:.2f} |\n| open findings | {findings} |")
    with open(os.path.join(args.out, "soak.json"), "w") as f:
        json.dump({"first_seed": first_seed, "hours": elapsed_s / 3600, "findings": findings, "figures": sums,
                   "parts": {part.name: {"turns": part.turns, "seconds": part.spent_s, "findings": part.findings, "skipped": part.skipped} for part in todo}},
                  f, indent=1)
    sys.exit(findings != 0)


if __name__ == "__main__":
    main()
