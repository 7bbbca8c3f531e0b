#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Each directed generator of the crash simulator reaches what it is for, and the ordinary seeds reach all of it: no counter is 0."""
import json
import os
import subprocess
import sys

SIM = os.path.join(os.environ["PCACHE_BIN_DIR"], "pcache-crash-sim")
AIMS = {
    "full-data": ["full", "no_free_segments"],
    "full-log": ["log_full", "full"],
    "log-wrap": ["log_rounds", "log_last_slot", "log_pads"],
    "cleaning": ["cleaned_segments", "relogged_slots", "log_reserve_used"],
    "high-counters": ["high_counters"],
    "reopens": ["reopens", "idle_reopens"],
    "torn-opens": ["crashes", "cut_opens"],
    "part-filled": ["part_filled_segments"],
    "splits": ["extents_max"],
    "epochs": ["epochs_max"],
    "discard-all": ["discards_of_all"],
    "freed-pending": ["no_free_segments"],
    "flush-fails": ["backing_errors", "flush_errors"],
}
# At least this much, where more than 0 says little.
LEAST = {"log_rounds": 3, "extents_max": 40, "epochs_max": 8, "cleaned_segments": 10, "idle_reopens": 10, "cut_opens": 10}
SEEDS = "4" if os.environ.get("PCACHE_SANITIZE") else "8"


def run(*args):
    done = subprocess.run([SIM, "--json", *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(args)}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)["reached"]


def main():
    if not os.access(SIM, os.X_OK):
        sys.exit(77)
    text = subprocess.run([SIM, "--help"], capture_output=True, text=True, check=True).stdout
    for kind in AIMS:
        if f"\n  {kind} " not in text:
            sys.exit(f"--help does not list {kind}")
    missed = []
    for kind, counters in AIMS.items():
        reached = run("--directed", kind, "--seeds", SEEDS, "--depth", "1", "--states", "60000")
        print(kind, {name: reached[name] for name in counters})
        missed += [f"{kind}: {name} is {reached[name]}" for name in counters if reached[name] < LEAST.get(name, 1)]
    reached = run("--seeds", "90", "--depth", "1", "--seed", "900")
    print("ordinary seeds", reached)
    missed += [f"ordinary seeds: {name} is 0" for name, value in reached.items() if value == 0]
    if missed:
        sys.exit("\n".join(missed))


main()
