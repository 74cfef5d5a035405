#!/usr/bin/env python3
"""Drops eight days of telemetry into a watch directory, good files and bad ones, as a real installation would.

usage: drop_files.py WATCH_DIR STAGING_DIR MANIFEST

Most files are made in STAGING_DIR (same file system) and renamed in; some are written in place. MANIFEST gets a line
for each file when it is complete, separated by tabs: name, expected fate, rows, reasons, what is special about it. The
fate `ignored` is that of files which the pipeline leaves alone.

The same program gives the same bytes on every run. Python's standard library only.
"""

import os
import sys
import time
from datetime import datetime, timezone

from telemetry import COLUMNS, FIRST_READING, Telemetry, as_csv

SEED = 20200712
GOOD_FILES = 24
FILE_SECONDS = 8 * 3600
BETWEEN_FILES_SECONDS = 0.4
SLOW_WRITE_SECONDS = 4


class Dropper:
    def __init__(self, watch_dir, staging_dir, manifest):
        self.watch_dir = watch_dir
        self.staging_dir = staging_dir
        self.manifest = manifest

    def rename_in(self, name, content):
        """The best way: what appears in the watch directory is complete."""
        staged = os.path.join(self.staging_dir, name)
        write(staged, content)
        os.rename(staged, self.path(name))

    def rename_part(self, name, content):
        """A .part beside the others, which gets its name when it is complete."""
        part = self.path(name + ".part")
        write(part, content)
        time.sleep(0.5)
        os.rename(part, self.path(name))

    def write_in_place(self, name, content):
        write(self.path(name), content)

    def write_slowly(self, name, content):
        """Complete when its writer closes it, not before."""
        pieces = 20
        size = len(content) // pieces + 1
        with open(self.path(name), "wb") as file:
            for start in range(0, len(content), size):
                file.write(content[start : start + size])
                file.flush()
                time.sleep(SLOW_WRITE_SECONDS / pieces)

    def path(self, name):
        return os.path.join(self.watch_dir, name)

    def note(self, name, fate, rows=0, reasons="", special=""):
        with open(self.manifest, "a", encoding="utf-8") as file:
            print(name, fate, rows, reasons, special, sep="\t", file=file)


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def good_file(number, rows, drop):
    """(name, content, how it arrives, what is special) of the good file with this number."""
    start = datetime.fromtimestamp(FIRST_READING + number * FILE_SECONDS, timezone.utc)
    name = f"iot_telemetry_{start:%Y-%m-%d_%Hh}"
    if number == 3:
        return name + ".csv", as_csv(rows), drop.write_in_place, "written in place"
    if number == 5:
        content = b"\xef\xbb\xbf" + as_csv(rows, line_end="\r\n")
        return name + ".csv", content, drop.rename_in, "byte order mark, CRLF"
    if number == 7:
        return name + ".csv", as_csv(rows), drop.write_slowly, f"written slowly, in {SLOW_WRITE_SECONDS} s"
    if number == 9:
        content = as_csv(rows, columns=COLUMNS[::-1], quote="")
        return name + ".csv", content, drop.rename_in, "no quotes, columns in another order"
    if number == 11:
        return name + ".csv", as_csv(rows), drop.rename_part, "uploaded as .part, then renamed"
    if number == 13:
        return name + ".CSV", as_csv(rows), drop.rename_in, "upper-case name"
    return name + ".csv", as_csv(rows), drop.rename_in, ""


def change(rows, column, values):
    """The rows with some cells replaced: `values` is {row: text}."""
    changed = [list(row) for row in rows]
    for at, text in values.items():
        changed[at][COLUMNS.index(column)] = text
    return changed


def bad_files(rows):
    """(name, content, reasons) of files that break the rules, made from good rows."""
    in_milliseconds = {at: str(1594512094386 + at * 1700) for at in range(len(rows))}
    many = change(rows, "humidity", {10: "n/a", 500: "51,4", 900: "NaN"})
    many = change(many, "temp", {11: "-127.0", 12: "-127.0"})
    many = change(many, "motion", {13: "unknown"})
    latin1 = as_csv(rows).replace(b"b8:27:eb:bf:9d:51", "Gerät-7".encode("latin-1"), 3)
    return [
        ("no_smoke_sensor.csv", as_csv(rows, columns=[c for c in COLUMNS if c != "smoke"]), "missing_column"),
        ("overheated.csv", as_csv(change(rows, "temp", {100: "184.3", 101: "185.0", 102: "50.1"})), "out_of_range"),
        ("not_a_number.csv", as_csv(change(rows, "co", {7: "0.0049 ppm"})), "bad_number"),
        ("milliseconds.csv", as_csv(change(rows, "ts", in_milliseconds)), "bad_ts"),
        ("loose_contact.csv", as_csv(many), "bad_bool,bad_number,out_of_range"),
        ("latin1_device.csv", latin1, "encoding"),
        ("power_cut.csv", as_csv(rows)[:-9], "malformed"),
        ("empty.csv", b"", "empty"),
    ]  # fmt: skip


def drop_what_is_ignored(drop):
    """Names and kinds of files that are none of the pipeline's business."""
    drop.write_in_place("upload.csv.part", b"not finished yet")
    drop.note("upload.csv.part", "ignored", special="*.part is not finished")
    drop.write_in_place(".sync.csv", b"of some other program")
    drop.note(".sync.csv", "ignored", special="hidden")
    os.symlink("/etc/passwd", drop.path("passwd.csv"))
    drop.note("passwd.csv", "ignored", special="a link that leads out")
    os.mkdir(drop.path("archive.csv"))
    drop.note("archive.csv", "ignored", special="a directory")


def main():
    drop = Dropper(*sys.argv[1:4])
    telemetry = Telemetry(SEED)
    drop_what_is_ignored(drop)
    bad, resent = [], None
    for number in range(GOOD_FILES):
        rows = telemetry.until(FIRST_READING + (number + 1) * FILE_SECONDS)
        name, content, arrive, special = good_file(number, rows, drop)
        arrive(name, content)
        drop.note(name, "loaded", len(rows), special=special)
        if number == 0:
            resent, bad = content, bad_files(rows[:1500])
        elif number % 2 == 0 and bad:
            bad_name, bad_content, reasons = bad.pop(0)
            drop.rename_in(bad_name, bad_content)
            drop.note(bad_name, "quarantined", reasons=reasons)
        time.sleep(BETWEEN_FILES_SECONDS)
    drop.rename_in("sent_again.csv", resent)
    drop.note("sent_again.csv", "duplicate", special="the first file under another name")


if __name__ == "__main__":
    main()
