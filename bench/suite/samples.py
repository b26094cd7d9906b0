"""Samples of a run, and what is made of them: medians, spreads, ratios.

A program prints `result,WORKLOAD,PARAMETER,METRIC,VALUE,UNIT` (bench/common/report.h). Rounds are
interleaved, so a ratio is taken within each round, where both sides have met the same moment of the
machine, and then the median of the rounds' ratios. A spread is the least and the greatest round.
"""

import collections
import csv
import math
import statistics

Key = collections.namedtuple("Key", "medium program subject workload parameter metric")
Result = collections.namedtuple("Result", "workload parameter metric value unit")
Summary = collections.namedtuple("Summary", "median low high rounds")


def parse_line(line):
    """A Result, or None of a line that is none. ValueError: it says `result` and is not one."""
    fields = line.rstrip("\n").split(",")
    if fields[0] != "result":
        return None
    if len(fields) != 6 or not all(fields):
        raise ValueError(f"not a result line: {line!r}")
    value = float(fields[4])
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"not a number that can be a result: {line!r}")
    return Result(fields[1], fields[2], fields[3], value, fields[5])


def summarize(values):
    """Of one number for each round."""
    values = list(values)
    return Summary(statistics.median(values), min(values), max(values), len(values))


class Samples:
    def __init__(self):
        self._values = {}  # Key -> {round: [value, ...]}, in the order of arrival
        self._units = {}
        self._raw = []

    def add(self, medium, program, subject, round_number, result):
        key = Key(medium, program, subject, result.workload, result.parameter, result.metric)
        self._values.setdefault(key, {}).setdefault(round_number, []).append(result.value)
        self._units[key] = result.unit
        self._raw.append((key, round_number, result.value))

    def keys(self):
        return list(self._values)

    def unit(self, key):
        return self._units[key]

    def by_round(self, key):
        """{round: median of its samples}, empty of what was not measured."""
        return {number: statistics.median(values)
                for number, values in self._values.get(key, {}).items()}

    def summary(self, key):
        """Summary over rounds, or None."""
        rounds = self.by_round(key)
        return summarize(rounds.values()) if rounds else None

    def ratio(self, over, under):
        """Summary of `over` as a multiple of `under`, over the rounds that have both; or None."""
        above, below = self.by_round(over), self.by_round(under)
        values = [above[number] / below[number]
                  for number in above if number in below and below[number] > 0]
        return summarize(values) if values else None

    def write_raw(self, path):
        """Every sample, in the order of arrival."""
        with open(path, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow([*Key._fields, "round", "value", "unit"])
            for key, number, value in self._raw:
                writer.writerow([*key, number, f"{value:.9g}", self._units[key]])

    def write_summaries(self, path, reference):
        """A line for each key: median, spread, and the ratio to the subject `reference`."""
        with open(path, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow([*Key._fields, "unit", "rounds", "median", "low", "high",
                             f"over_{reference}", "over_low", "over_high"])
            for key in self._values:
                s = self.summary(key)
                r = self.ratio(key, key._replace(subject=reference))
                writer.writerow([*key, self._units[key], s.rounds,
                                 *(f"{value:.6g}" for value in s[:3]),
                                 *([f"{value:.4g}" for value in r[:3]] if r else ["", "", ""])])


def read_raw(path):
    """The Samples of a file that write_raw made."""
    samples = Samples()
    with open(path, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            result = Result(row["workload"], row["parameter"], row["metric"], float(row["value"]),
                            row["unit"])
            samples.add(row["medium"], row["program"], row["subject"], int(row["round"]), result)
    return samples


def parameters_of(parameter):
    """{"indexes": "4", "rows": "10"} of "indexes=4;rows=10"; {} of "-"."""
    return dict(part.split("=", 1) for part in parameter.split(";") if "=" in part)


def number_of(parameter, name):
    """The number that a parameter gives to `name`, or None. 8m and 4k are bytes."""
    text = parameters_of(parameter).get(name)
    if not text:
        return None
    scale = {"k": 2**10, "m": 2**20, "g": 2**30}.get(text[-1].lower(), 1)
    try:
        return float(text if scale == 1 else text[:-1]) * scale
    except ValueError:
        return None
