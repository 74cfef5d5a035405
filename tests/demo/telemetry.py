"""Made-up telemetry in the shape of the public "Environmental Sensor Telemetry Data" (Kaggle, iot_telemetry_data.csv).

What is taken from there: the nine columns and their order; three devices that are about as far apart in climate; unix
seconds in Java's notation (1.5945120943859746E9); two devices whose humidity and temperature are 32-bit floats printed
as 64-bit ones; lpg and smoke that follow co by a power law, since one gas sensor gives all three; a reading every 1.7 s.

The values are random walks; the same seed gives the same bytes.
"""

import struct
from random import Random

COLUMNS = ["ts", "device", "co", "humidity", "light", "lpg", "motion", "smoke", "temp"]

FIRST_READING = 1594512094.3859746  # 2020-07-12T00:01:34Z
SECONDS_BETWEEN_READINGS = 1.7


class Device:
    """One sensor board: where its values wander around, and how far."""

    def __init__(self, mac, share, co, humidity, temp, restless, is_single_precision, is_lit):
        self.mac = mac
        self.share = share  # of all readings
        self.centre = {"co": co, "humidity": humidity, "temp": temp}
        self.reach = {"co": co / 3, "humidity": 4 * restless, "temp": 1.5 * restless}
        self.now = dict(self.centre)
        self.text_of = single_precision if is_single_precision else repr
        self.is_lit = is_lit

    def wander(self, metric, random):
        """The next value: a small step, and pulled back a little towards the centre."""
        step = (random() - 0.5) * self.reach[metric] * 0.3
        pull = (self.centre[metric] - self.now[metric]) * 0.01
        self.now[metric] += step + pull
        return self.now[metric]

    def read(self, ts, random):
        """One row, as the texts of its fields."""
        co = max(0.0012, self.wander("co", random))
        humidity = round(min(99.9, max(1.0, self.wander("humidity", random))), 1)
        temp = round(self.wander("temp", random), 1)
        lpg = 0.0076508 * (co / 0.0049559) ** 0.7234
        smoke = 0.0204113 * (co / 0.0049559) ** 0.7726
        light = "true" if random() < (0.97 if self.is_lit else 0.02) else "false"
        motion = "true" if random() < 0.0012 else "false"
        return [
            java_double(ts), self.mac, repr(co), self.text_of(humidity), light,
            repr(lpg), motion, repr(smoke), self.text_of(temp),
        ]  # fmt: skip


def three_devices():
    return [
        Device("b8:27:eb:bf:9d:51", 0.46, 0.0056, 50.8, 22.3, 0.4, is_single_precision=False, is_lit=False),
        Device("00:0f:00:70:91:0a", 0.28, 0.0035, 75.4, 19.4, 0.5, is_single_precision=True, is_lit=False),
        Device("1c:bf:ce:15:ec:4d", 0.26, 0.0042, 61.9, 26.0, 1.6, is_single_precision=True, is_lit=True),
    ]


class Telemetry:
    """An endless stream of readings, cut into slices of time."""

    def __init__(self, seed):
        self.random = Random(seed).random
        self.devices = three_devices()
        self.ts = FIRST_READING

    def until(self, end):
        """The rows up to the instant `end` (unix seconds)."""
        rows = []
        while self.ts < end:
            rows.append(self.pick_device().read(self.ts, self.random))
            self.ts += self.random() * 2 * SECONDS_BETWEEN_READINGS
        return rows

    def pick_device(self):
        at = self.random()
        for device in self.devices[:-1]:
            if at < device.share:
                return device
            at -= device.share
        return self.devices[-1]


def single_precision(value):
    """19.7 as a program prints it that has read it into a 32-bit float: 19.700000762939453."""
    return repr(struct.unpack("f", struct.pack("f", value))[0])


def java_double(ts):
    """Unix seconds of our days (ten digits before the point) as Java prints a double."""
    digits = repr(ts).replace(".", "").rstrip("0")
    return f"{digits[0]}.{digits[1:] or '0'}E9"


def as_csv(rows, columns=COLUMNS, quote='"', line_end="\n"):
    """The bytes of a file; by default every field is quoted, as in the public set."""
    places = [COLUMNS.index(column) for column in columns]
    between = quote + "," + quote
    lines = [between.join(columns)]
    lines += [between.join([row[place] for place in places]) for row in rows]
    return "".join([quote + line + quote + line_end for line in lines]).encode()
