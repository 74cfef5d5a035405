"""The whole file: hashed, judged and aggregated in one reading (docs/ingest-rules.md, "Columns" and "Values").

`validate_and_transform_data` is the seed's name. Deliberate difference: it gives a verdict and moves nothing; whoever
calls it decides what becomes of the file.
"""
import os
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context
from math import inf, isfinite

from scripts.aggregate import Aggregator
from scripts.records import MAX_RECORD_BYTES, Records
from scripts.report import Report, Violation, cut, quoted

COLUMNS = ("ts", "device", "co", "humidity", "light", "lpg", "motion", "smoke", "temp")

# The metrics, in the order in which they are judged, stored and aggregated: smallest and largest value, both allowed.
RANGES = {"co": (0, 1), "humidity": (0, 100), "lpg": (0, 1), "smoke": (0, 1), "temp": (-50, 50)}

MAX_DEVICE_CHARS = 128

MIN_TS_MICROS = 946_684_800_000_000  # 2000-01-01
END_TS_MICROS = 4_102_444_800_000_000  # 2100-01-01

BLANKS = " \t"

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
# As many digits as a record can hold, so that nothing is rounded but the last step.
_EXACT = Context(prec=2 * MAX_RECORD_BYTES)


@dataclass(frozen=True)
class Checked:
    """A file that was read to its end. Without violations it is good, and has rows and aggregates."""

    sha256: bytes
    size_bytes: int
    report: Report
    rows: int
    aggregates: list


def validate_and_transform_data(file):
    """Reads the open file (a descriptor) to its end: hash, verdict and statistics."""
    reader = SensorReader(file)
    rows, aggregator = 0, Aggregator(RANGES)
    for _line, row in reader:
        rows += 1
        if not reader.report:
            aggregator.add(row[1], row[4:])
    sha256 = reader.finish()
    if not rows and not reader.report:
        reader.report.add(Violation("empty", "at least one row below the header"))
    aggregates = [] if reader.report else aggregator.aggregates()
    return Checked(sha256, reader.size_bytes, reader.report, rows, aggregates)


class SensorReader:
    """Reads a sensor file from its start, whatever others have read from the same descriptor.

    Iterating yields `(line, (ts in µs, device, light, motion, co, humidity, lpg, smoke, temp))` for each row that keeps
    the rules; what does not is in `report`.
    """

    def __init__(self, file):
        self._file = file
        self._offset = 0
        self._records = Records(self._read)
        self.report = Report()

    @property
    def size_bytes(self):
        return self._records.size_bytes

    def finish(self):
        """Reads what is left; the SHA-256 of all bytes."""
        return self._records.finish()

    def __iter__(self):
        records = iter(self._records)
        columns = self._columns(records)
        if columns is None:
            return
        for line, fields in records:
            if isinstance(fields, Violation):
                self.report.add(fields)
            elif row := self._row(line, fields, columns):
                yield line, row

    def _read(self, count):
        data = os.pread(self._file, count, self._offset)
        self._offset += len(data)
        return data

    def _columns(self, records):
        """Where each of the nine columns stands, and how many there are; None if the header does not fit."""
        line, header = next(records, (None, Violation("empty", "a header line")))
        if isinstance(header, Violation):
            self.report.add(header)
            return None
        if any("\0" in name for name in header):
            self.report.add(_nul(line, header, {}))
            return None
        names = [name.strip(BLANKS) for name in header]
        places = {}
        for column in COLUMNS:
            if column not in names:
                self.report.add(Violation("missing_column", f"a column named {quoted(column)}", line, column))
            elif names.count(column) > 1:
                rule = f"one column named {quoted(column)}, not several"
                self.report.add(Violation("bad_header", rule, line, column))
            else:
                places[column] = names.index(column)
        return None if self.report else (places, len(names))

    def _row(self, line, fields, columns):
        places, count = columns
        if "\0" in "".join(fields):
            self.report.add(_nul(line, fields, places))
            return None
        if len(fields) != count:
            rule = f"{count} fields, as in the header, not {len(fields)}"
            self.report.add(Violation("field_count", rule, line, text=cut("".join(fields))))
            return None
        row, is_good = [], True
        for column, judge in _JUDGES.items():
            text = fields[places[column]].strip(BLANKS)
            value, fault = judge(text)
            row.append(value)
            if fault:
                is_good = False
                reason, rule = fault
                self.report.add(Violation(reason, rule, line, column, cut(text)))
        return row if is_good else None


def _nul(line, fields, places):
    """The first field with a NUL, by its column if it is one of ours."""
    index = next(index for index, field in enumerate(fields) if "\0" in field)
    column = next((column for column, place in places.items() if place == index), None)
    return Violation("nul", "no NUL character", line, column, cut(fields[index]))


# Each of these takes a field without the blanks around it, and gives its value and what is wrong with it (reason, rule).


def _micros(text):
    """Unix seconds to whole microseconds, half to even; the text never passes through a float on its way."""
    if not _NUMBER.fullmatch(text):
        return None, ("bad_ts", "unix seconds as a decimal number")
    # A rough look first: what is far away may have an exponent that no decimal can hold.
    if 0.9e9 < float(text) < 4.2e9:
        exact = _EXACT.scaleb(_EXACT.create_decimal(text), 6)
        micros = int(exact.to_integral_value(ROUND_HALF_EVEN, _EXACT))
        if MIN_TS_MICROS <= micros < END_TS_MICROS:
            return micros, None
    return None, ("bad_ts", "2000-01-01 <= ts < 2100-01-01, in unix seconds")


def _device(text):
    if 1 <= len(text) <= MAX_DEVICE_CHARS and "\n" not in text and "\r" not in text:
        return text, None
    return None, ("bad_device", f"1 to {MAX_DEVICE_CHARS} characters, no line break")


def _boolean(text):
    value = _BOOLEANS.get(text.lower())
    return value, None if value is not None else ("bad_bool", "true, false, 1 or 0")


def _number(name, low, high):
    bad_number = ("bad_number", "a finite decimal number")
    out_of_range = ("out_of_range", f"{low} <= {name} <= {high}")

    def judge(text):
        value = float(text) if _NUMBER.fullmatch(text) else inf
        if low <= value <= high:
            return value, None
        return None, out_of_range if isfinite(value) else bad_number

    return judge


# In this order a row's fields are judged, and stand in a row.
_JUDGES = {
    "ts": _micros,
    "device": _device,
    "light": _boolean,
    "motion": _boolean,
    **{name: _number(name, *limits) for name, limits in RANGES.items()},
}
