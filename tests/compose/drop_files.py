#!/usr/bin/env python3
"""Renames many good files and one bad one into a watch directory.

usage: drop_files.py WATCH_DIR PREFIX FILES

Their names begin with PREFIX, and other prefixes give other contents. Prints a line for each file, separated by tabs:
name, fate, rows. The same program gives the same bytes on every run. Python's standard library only.
"""

import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "demo"))

from telemetry import COLUMNS, FIRST_READING, Telemetry, as_csv  # noqa: E402

FILE_SECONDS = 600


def drop(watch_dir, name, content):
    """Complete at the moment at which it has its name."""
    path = os.path.join(watch_dir, name)
    with open(path + ".part", "wb") as file:
        file.write(content)
    os.rename(path + ".part", path)


def main():
    watch_dir, prefix, files = sys.argv[1], sys.argv[2], int(sys.argv[3])
    telemetry = Telemetry(prefix)
    for number in range(files):
        rows = telemetry.until(FIRST_READING + (number + 1) * FILE_SECONDS)
        name = f"{prefix}_{number:03}.csv"
        drop(watch_dir, name, as_csv(rows))
        print(name, "loaded", len(rows), sep="\t")
    rows[1][COLUMNS.index("temp")] = "184.3"
    name = f"{prefix}_overheated.csv"
    drop(watch_dir, name, as_csv(rows))
    print(name, "quarantined", 0, sep="\t")


if __name__ == "__main__":
    main()
