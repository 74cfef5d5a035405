"""Bytes to verdicts: every reason class of docs/ingest-rules.md that can be found in a file, and what is good."""
import hashlib
import tempfile

import pytest

from scripts.records import MAX_RECORD_BYTES
from scripts.report import MAX_VIOLATIONS_IN_FULL, Report, Violation
from scripts.validate import COLUMNS, SensorReader, validate_and_transform_data

HEADER = "ts,device,co,humidity,light,lpg,motion,smoke,temp\n"
ROW = "1.5945120943859746E9,b8:27,0.005,51.0,false,0.0077,false,0.02,22.7\n"


def checked(data):
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return validate_and_transform_data(file.fileno())


def rows(text):
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        reader = SensorReader(file.fileno())
        found = list(reader)
        assert not reader.report, reader.report.summary()
        return found


def violations(data):
    data = data.encode() if isinstance(data, str) else data
    return [(v.line, v.column, v.reason) for v in checked(data).report.first]


def row(**texts):
    """A good row with some fields changed."""
    fields = dict(zip(COLUMNS, ROW.strip().split(",")))
    return ",".join({**fields, **texts}.values()) + "\n"


def test_a_good_file_has_rows_aggregates_and_the_hash_of_all_its_bytes():
    data = (HEADER + ROW + ROW).encode()
    good = checked(data)
    assert (good.rows, len(good.aggregates), good.size_bytes) == (2, 5, len(data))
    assert good.sha256 == hashlib.sha256(data).digest()


@pytest.mark.parametrize("data", [
    HEADER + ROW,
    (HEADER + ROW).rstrip("\n"),
    (HEADER + ROW).replace("\n", "\r\n"),
    (HEADER + ROW).replace("\n", "\r"),
    "\ufeff" + HEADER + ROW,
    "\n\r\n" + HEADER + "\n" + ROW + "\n\n",
    '"' + (HEADER + ROW).replace(",", '","').replace("\n", '"\n"').rstrip('"'),
    HEADER + '1594512094, "a" ,0,0,1,0,0,0,0\n'.replace(' "a" ', '"a"'),
    HEADER + row(light=" TRUE\t", motion="0", co="+1.", lpg=".5e0", smoke="1e-400", humidity="100", temp="-50"),
    HEADER + row(device="a\tb\\N '; drop table x -- 温度 🌡"),
    HEADER + row(device='"a ""b"" , c"'),
    HEADER.replace("\n", ",note,note, \n") + ROW.replace("\n", ",,x,\n"),
])  # fmt: skip
def test_what_is_good(data):
    assert violations(data) == []


@pytest.mark.parametrize("data, expected", [
    ("", [(None, None, "empty")]),
    ("\n\r\n", [(None, None, "empty")]),
    (HEADER, [(None, None, "empty")]),
    (HEADER + " \n", [(2, None, "field_count")]),
    ("a,b\n" + ROW, [(1, name, "missing_column") for name in COLUMNS]),
    (HEADER.replace("ts", "TS") + ROW, [(1, "ts", "missing_column")]),
    (HEADER.replace("smoke", "lpg") + ROW, [(1, "lpg", "bad_header"), (1, "smoke", "missing_column")]),
    (HEADER.replace("ts", '"ts') + ROW, [(1, None, "malformed")]),
    (HEADER.replace("ts", "t\0s") + ROW, [(1, None, "nul")]),
    (b"\xff\xfe" + HEADER.encode(), [(1, None, "encoding")]),
    (HEADER + ROW + "1,2\n" + ROW, [(3, None, "field_count")]),
    (HEADER + "\n" + ROW.replace("\n", ",\n"), [(3, None, "field_count")]),
    (HEADER + row(device='b"8'), [(2, None, "malformed")]),
    (HEADER + row(device='"b8" '), [(2, None, "malformed")]),
    (HEADER + ROW + row(device='"b8') + ROW, [(3, None, "malformed")]),
    (HEADER + row(device='"a\n\nb"') + row(temp="x"), [(2, "device", "bad_device"), (5, "temp", "bad_number")]),
    (HEADER + row(device="x" * MAX_RECORD_BYTES) + row(temp="x"), [(2, None, "malformed")]),
    (HEADER.encode() + b"\xe9" + ROW.encode() + row(temp="x").encode(), [(2, None, "encoding"), (3, "temp", "bad_number")]),
    (HEADER + row(smoke="0\0"), [(2, "smoke", "nul")]),
    (HEADER + row(co="-0.1", humidity="100.1", light="yes", lpg="", motion="2", smoke="nan", temp="50.000001"), [
        (2, "light", "bad_bool"), (2, "motion", "bad_bool"), (2, "co", "out_of_range"), (2, "humidity", "out_of_range"),
        (2, "lpg", "bad_number"), (2, "smoke", "bad_number"), (2, "temp", "out_of_range"),
    ]),
    (HEADER + row(ts="yesterday", device=""), [(2, "ts", "bad_ts"), (2, "device", "bad_device")]),
    (HEADER + row(device="x" * 128) + row(device="x" * 129), [(3, "device", "bad_device")]),
])  # fmt: skip
def test_every_fault_has_its_line_column_and_reason(data, expected):
    assert violations(data) == expected


@pytest.mark.parametrize("text", [
    "", "nan", "inf", "-Infinity", "1e999", "1_0", "0x1", "1e", "+", ".", "1 2", "22.7C", "NULL", "٣", "１", "--1", "1.2.3",
])  # fmt: skip
def test_what_is_no_number(text):
    assert violations(HEADER + row(temp=text)) == [(2, "temp", "bad_number")]


@pytest.mark.parametrize("text, micros", [
    ("1594512094", 1_594_512_094_000_000),
    ("1.5945120943859746E9", 1_594_512_094_385_975),
    ("+15945120943859746e-7", 1_594_512_094_385_975),
    (".1594512094e+10", 1_594_512_094_000_000),
    ("0" * 500 + "1594512094.", 1_594_512_094_000_000),
    ("1594512094.0000005", 1_594_512_094_000_000),
    ("1594512094.0000015", 1_594_512_094_000_002),
    ("1594512094.0000005" + "0" * 500 + "1", 1_594_512_094_000_001),
    ("946684799.9999999", 946_684_800_000_000),
    ("4102444799.999999", 4_102_444_799_999_999),
    ("4102444799.9999999", None),
    ("946684799.9999994", None),
    ("1594512094385", None),
    ("-1594512094", None),
    ("1e99999999999999999999999", None),
    ("1e-99999999999999999999999", None),
    ("2020-07-12T00:01:34Z", None),
    ("nan", None),
])  # fmt: skip
def test_timestamps_are_exact_to_the_microsecond(text, micros):
    if micros is None:
        assert violations(HEADER + row(ts=text)) == [(2, "ts", "bad_ts")]
    else:
        [(_line, values)] = rows(HEADER + row(ts=text))
        assert values[0] == micros


def test_columns_are_found_by_name():
    text = " temp ,note,smoke,motion,lpg,light,humidity,co,\"device\",ts\n1,x,0.5,0,0.25,TRUE,50,0.125,\"a,b\",1594512094\n"
    assert rows(text) == [(2, [1_594_512_094_000_000, "a,b", True, False, 0.125, 50, 0.25, 0.5, 1])]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 150])
def test_records_do_not_depend_on_the_pieces_in_which_they_are_read(monkeypatch, count):
    text = "\ufeff" + HEADER + row(device='"a ""b"",\nc"').replace("\n", "\r\n") + ROW.replace("\n", "\r") + row(temp="x")
    whole = violations(text)
    monkeypatch.setattr("scripts.records.READ_BYTES", count)
    assert violations(text) == whole == [(2, "device", "bad_device"), (5, "temp", "bad_number")]


def test_a_report_keeps_the_first_in_full_and_counts_the_rest():
    report = Report()
    for line in range(1, 2001):
        report.add(Violation("out_of_range", "-50 <= temp <= 50", line, "temp", "99"))
    report.add(Violation("bad_ts", "unix seconds", 1, "ts", 'x\n"'))
    report.add(Violation("bad_number", "a number", 1, "co", "x"))
    json = report.as_json()
    assert (json["violations"], len(json["first"])) == (2002, MAX_VIOLATIONS_IN_FULL)
    assert list(json["by_reason"].items()) == [("bad_number", 1), ("out_of_range", 2000), ("bad_ts", 1)]
    assert report.summary() == (
        "2002 violations (bad_number 1, out_of_range 2000, bad_ts 1); "
        'first: line 1, column "temp": -50 <= temp <= 50, found "99"'
    )


def test_what_was_found_is_cut_and_shown_on_one_line():
    [violation] = checked((HEADER + row(temp='"é\n' + "x" * 100 + '"')).encode()).report.first
    assert violation.text == "é\n" + "x" * 78 + "…"
    assert Report(violation).summary().endswith('found "é\\n' + "x" * 78 + '…"')
