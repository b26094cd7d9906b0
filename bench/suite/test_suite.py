#!/usr/bin/python3
"""The runner's arithmetic. Catches: a median or ratio over the wrong values, a ratio across rounds, a mark
judged in the wrong direction or met without having been measured, a result line that is misread, a plot
that mixes up subjects or swallows a parameter; and of the runner itself, an error that ends it, is not told,
or leaves the exit status at 0.
"""

import os
import subprocess
import sys
import tempfile
import unittest
from types import SimpleNamespace

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import document  # noqa: E402
import marks  # noqa: E402
import plots  # noqa: E402
from samples import (Key, Result, Samples, number_of, parameters_of, parse_line,  # noqa: E402
                     read_raw, summarize)


def samples_of(rows):
    """rows: (subject, round, workload, parameter, metric, value)."""
    samples = Samples()
    for subject, number, workload, parameter, metric, value in rows:
        samples.add("tmpfs", "p", subject, number, Result(workload, parameter, metric, value, "us"))
    return samples


def key(subject, metric="time", workload="w", parameter="-"):
    return Key("tmpfs", "p", subject, workload, parameter, metric)


class Lines(unittest.TestCase):
    def test_a_result_line_is_read(self):
        self.assertEqual(parse_line("result,update,indexes=4;rows=10,time,2.5e-3,us/op\n"),
                         Result("update", "indexes=4;rows=10", "time", 0.0025, "us/op"))

    def test_other_lines_are_none(self):
        self.assertIsNone(parse_line("loading ...\n"))
        self.assertIsNone(parse_line(""))

    def test_a_broken_result_is_an_error(self):
        for line in ("result,a,b,c,1", "result,a,b,c,1,us,more", "result,a,,c,1,us",
                     "result,a,b,c,fast,us", "result,a,b,c,nan,us", "result,a,b,c,inf,us",
                     "result,a,b,c,-1,us", "result,a,b,c,1,"):
            with self.assertRaises(ValueError, msg=line):
                parse_line(line)

    def test_parameters(self):
        self.assertEqual(parameters_of("a=1;b=x"), {"a": "1", "b": "x"})
        self.assertEqual(parameters_of("-"), {})
        self.assertEqual(number_of("rows=1000", "rows"), 1000)
        self.assertEqual(number_of("size=8g;state=warm", "size"), 8 * 2**30)
        self.assertIsNone(number_of("size=8g", "rows"))
        self.assertIsNone(number_of("reader=ended", "reader"))


class Arithmetic(unittest.TestCase):
    def test_median_of_odd_and_even(self):
        self.assertEqual(summarize([3, 1, 2])[:3], (2, 1, 3))
        self.assertEqual(summarize([4, 1, 2, 3])[:3], (2.5, 1, 4))

    def test_samples_of_a_round_count_as_their_median(self):
        samples = samples_of([("a", 0, "w", "-", "time", v) for v in (1, 1, 100)] +
                             [("a", 1, "w", "-", "time", 5)])
        self.assertEqual(samples.by_round(key("a")), {0: 1, 1: 5})
        self.assertEqual(samples.summary(key("a")), (3, 1, 5, 2))

    def test_a_ratio_is_taken_within_rounds(self):
        # The machine is ten times slower in the second round; the ratio is 2 in both.
        samples = samples_of([("a", 0, "w", "-", "time", 2), ("b", 0, "w", "-", "time", 1),
                              ("a", 1, "w", "-", "time", 20), ("b", 1, "w", "-", "time", 10)])
        self.assertEqual(samples.ratio(key("a"), key("b")), (2, 2, 2, 2))

    def test_a_ratio_leaves_out_rounds_that_one_side_does_not_have(self):
        samples = samples_of([("a", 0, "w", "-", "time", 6), ("a", 1, "w", "-", "time", 9),
                              ("b", 1, "w", "-", "time", 3), ("b", 2, "w", "-", "time", 1)])
        self.assertEqual(samples.ratio(key("a"), key("b")), (3, 3, 3, 1))

    def test_nothing_is_nothing(self):
        samples = samples_of([("a", 0, "w", "-", "time", 6), ("b", 0, "w", "-", "time", 0)])
        self.assertIsNone(samples.summary(key("c")))
        self.assertIsNone(samples.ratio(key("a"), key("c")))
        self.assertIsNone(samples.ratio(key("a"), key("b")))

    def test_files_hold_what_was_measured(self):
        samples = samples_of([("dax", 0, "w", "-", "time", 1), ("a", 0, "w", "-", "time", 3),
                              ("dax", 1, "w", "-", "time", 2), ("a", 1, "w", "-", "time", 4)])
        with tempfile.TemporaryDirectory() as directory:
            raw, summaries = (os.path.join(directory, name) for name in ("raw", "summaries"))
            samples.write_raw(raw)
            again = read_raw(raw)
            self.assertEqual(again.keys(), samples.keys())
            self.assertEqual(again.by_round(key("a")), {0: 3, 1: 4})
            samples.write_summaries(summaries, "dax")
            with open(summaries, encoding="utf-8") as stream:
                lines = stream.read().splitlines()
        self.assertEqual(lines[2], "tmpfs,p,a,w,-,time,us,2,3.5,3,4,2.5,2,3")


class Marks(unittest.TestCase):
    def verdict(self, value, bound, at_most):
        samples = samples_of([("a", 0, "w", "-", "time", value)])
        return marks.judge(samples, [marks.Mark("m", key("a"), bound, at_most, "")])[0]

    def test_the_direction_counts_and_the_bound_is_met(self):
        self.assertTrue(self.verdict(1.25, 1.25, True).met)
        self.assertFalse(self.verdict(1.26, 1.25, True).met)
        self.assertTrue(self.verdict(4.5, 4.5, False).met)
        self.assertFalse(self.verdict(4.4, 4.5, False).met)

    def test_what_was_not_measured_is_not_met(self):
        verdict = marks.judge(Samples(), [marks.Mark("m", key("a"), 1, True, "")])[0]
        self.assertIsNone(verdict.met)
        self.assertIsNone(verdict.summary)

    def test_a_ratio_of_times_has_one_of_cpu_times_beside_it(self):
        rows = [(s, 0, "w", "-", m, v) for s, m, v in
                (("a", "time", 8), ("b", "time", 2), ("a", "cpu", 3), ("b", "cpu", 2))]
        number = marks.Ratio(key("a"), key("b"))
        verdict = marks.judge(samples_of(rows), [marks.Mark("m", number, 5, True, "")])[0]
        self.assertEqual((verdict.summary.median, verdict.cpu.median), (4, 1.5))
        rate = marks.Ratio(key("a", "rate"), key("b", "rate"))
        self.assertIsNone(marks.cpu_of(samples_of(rows), rate))
        disk = marks.Ratio(*(k._replace(medium="disk") for k in number))
        self.assertIsNone(marks.cpu_of(samples_of(rows), disk))

    def test_the_ratio_of_the_exclusive_connection_stands_beside_that_of_the_others(self):
        rows = [(s, 0, "w", "-", "time", v) for s, v in (("dax", 8), ("dax-exclusive", 6), ("memory", 4))]
        for over, under, ratio in (("dax", "memory", 1.5), ("memory", "dax", 4 / 6)):
            number = marks.Ratio(key(over), key(under))
            self.assertEqual(marks.alone_of(samples_of(rows), number).median, ratio)
            self.assertIsNone(marks.alone_of(samples_of(rows[::2]), number))
        self.assertIsNone(marks.alone_of(samples_of(rows), key("dax")))

    def test_every_mark_is_about_daxlite(self):
        for mark in marks.MARKS:
            keys = mark.number if isinstance(mark.number, marks.Ratio) else [mark.number]
            self.assertIn("dax", [k.subject for k in keys], mark.what)


class Plots(unittest.TestCase):
    def test_bars_are_grouped_by_question_and_hold_each_subjects_number(self):
        plot = plots.bars("n", "t", "us", "p", [("W", "w", "-", "time"), ("V", "v", "-", "time")])
        samples = samples_of([("dax", 0, "w", "-", "time", 2), ("memory", 0, "w", "-", "time", 3)])
        script = plots.script_of(samples, plot, "/x.png")
        self.assertIn('set xtics ("W" 0)', "\n".join(script))
        dax = script.index("$s0 << END")
        self.assertEqual(script[dax + 1].split()[1:], ["2", "2", "2"])
        self.assertEqual(script[dax + 4].split()[1:], ["3", "3", "3"])

    def test_bars_may_be_ways_of_one_subject(self):
        series = {"A": ("#000000", "way=a"), "B": ("#111111", "way=b")}
        plot = plots.bars("n", "t", "us", "p", [("W", "w", "rows=1", "time"), ("V", "v", "", "time")],
                          subject="dax", series=series)
        samples = samples_of([("dax", 0, "w", "way=a;rows=1", "time", 2), ("dax", 0, "v", "way=b", "time", 5),
                              ("memory", 0, "v", "way=a", "time", 7)])
        self.assertEqual([(label, {s: v.median for s, v in found.items()})
                          for label, found in plots.bar_rows(samples, plot)],
                         [("W", {"A": 2}), ("V", {"B": 5})])

    def test_lines_run_over_the_number_in_order_and_fix_the_rest(self):
        plot = plots.lines("n", "t", "x", "us", "p", "w", "time", "rows", {"state": "warm"})
        samples = samples_of([("dax", 0, "w", f"rows={n};state={s}", "time", n * 2)
                              for n in (100, 1, 10) for s in ("warm", "cold")])
        points = plots.line_points(samples, plot, ["dax"])
        self.assertEqual([(x, s.median) for x, s in points["dax"]], [(1, 2), (10, 20), (100, 200)])

    def test_marks_between_whole_numbers_are_not_rounded_to_them(self):
        samples = samples_of([("dax", 0, "w", f"updates={n}", "b", n) for n in (500000, 1500000)])
        for logs, x, y in (("", 1, 1), ("x", 0, 1), ("xy", 0, 0)):
            plot = plots.lines("n", "t", "x", "bytes", "p", "w", "b", "updates", logs=logs)
            script = plots.script_of(samples, plot, "/x.png")
            self.assertIn(f"set format x '%.{x}s%c'", script)
            self.assertIn(f"set format y '%.{y}s%c'", script)

    def test_a_plot_of_nothing_is_left_out(self):
        for plot in plots.PLOTS:
            self.assertIsNone(plots.script_of(Samples(), plot, "/x.png"), plot.name)

    def test_names_are_unique_and_every_subject_has_a_colour(self):
        names = [plot.name for plot in plots.PLOTS]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(len(set(plots.COLOURS.values())), len(plots.COLOURS))


class Document(unittest.TestCase):
    def test_numbers(self):
        for value, text in ((0, "0"), (1.256, "1.26"), (414.4, "414"), (1234567, "1.23 M"),
                            (9876, "9 876"), (999999, "999 999"), (0.0123, "0.0123"), (2e9, "2 G"),
                            (21.4e6, "21.4 M"), (1.5e12, "1.5 T")):
            self.assertEqual(document.number(value), text)

    def test_what_is_left_out_is_told_once(self):
        self.assertEqual(document.left_out(["p: a: does not apply: no probe", "vm: skipped",
                                            "p: b: does not apply: no probe", "q: a: does not apply: x"]),
                         ["p: a, b: no probe", "vm: skipped", "q: a: x"])

    def test_the_document_says_what_was_measured_and_what_was_not(self):
        samples = samples_of([("dax", 0, "w", "-", "time", 1), ("dax", 1, "w", "-", "time", 3),
                              ("a", 0, "w", "-", "time", 4), ("wal-full", 0, "w", "-", "time", 4)])
        floor = marks.Ratio(key("a"), key("wal-full"))
        verdicts = marks.judge(samples, [marks.Mark("first", key("dax"), 1.5, True, "", floor),
                                         marks.Mark("second", key("b"), 1, True, "")])
        run = SimpleNamespace(how="A run.", facts=[("kernel", "6")], warnings=[],
                              errors=["something"], skipped=["lmdb: no"])
        with tempfile.NamedTemporaryFile("r", encoding="utf-8") as stream:
            document.write(stream.name, run, samples, verdicts, [])
            text = stream.read()
        self.assertIn("| first | <= 1.5 | 2 (1 .. 3) | 2 | - | 1 | **not met** | - |", text)
        self.assertIn("| second | <= 1 | - | - | - | - | not measured |", text)
        self.assertIn("0 of 1 that were measured are met", text)
        self.assertIn("| w | - | time | us | 2 (1 .. 3) | 4 4x |", text)
        self.assertIn("- something", text)
        self.assertIn("- lmdb: no", text)


# A program of two subjects: a time of 2 for dax and 3 for memory; the rest does not apply.
GOOD = """#!/bin/sh
case $2 in
dax) echo result,w,-,time,2,us ;;
memory) echo result,w,-,time,3,us ;;
*) echo "good: $2: does not apply: why" >&2; exit 77 ;;
esac
"""
BROKEN = """#!/bin/sh
echo result,w,-,time,4,us
echo result,w,-,time,fast,us
echo it broke >&2
exit 1
"""
SILENT = "#!/bin/sh\n"


class Runner(unittest.TestCase):
    def run_suite(self, programs, *arguments):
        """Exit status, RESULTS.md, results.csv of a run of shell scripts: {name: text, or None: missing}."""
        with tempfile.TemporaryDirectory() as directory:
            bench, results = (os.path.join(directory, name) for name in ("bench", "results"))
            os.mkdir(bench)
            for name, text in programs.items():
                if text:
                    with open(os.path.join(bench, name), "w", encoding="utf-8") as stream:
                        stream.write(text)
                    os.chmod(os.path.join(bench, name), 0o755)
            with open(os.path.join(bench, "programs.txt"), "w", encoding="utf-8") as stream:
                stream.write("\n".join(programs) + "\n")
            runner = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "run")
            done = subprocess.run(
                ["/usr/bin/python3", runner, "--build", directory, "--results", results, "--directory",
                 directory, "--disk", "none", "--quick", "--only", *programs, *arguments],
                capture_output=True, text=True, timeout=120)
            left = os.listdir(directory)
            texts = []
            for name in ("RESULTS.md", "results.csv"):
                with open(os.path.join(results, name), encoding="utf-8") as stream:
                    texts.append(stream.read())
        self.assertEqual(sorted(left), ["bench", "results"], "scratch directories are left behind")
        return done.returncode, *texts

    def test_errors_are_told_and_the_rest_goes_on(self):
        status, text, csv = self.run_suite(
            {"missing": None, "broken": BROKEN, "silent": SILENT, "good": GOOD}, "--subjects", "dax",
            "memory", "lmdb", "--rounds", "2")
        self.assertEqual(status, 1)
        for said in ("- missing, tmpfs, dax, round 0: exit status -1: cannot be started",
                     "- broken, tmpfs, memory, round 1: exit status 1: it broke",
                     "- broken, tmpfs, dax, round 0: could not convert string to float: 'fast'",
                     "- silent, tmpfs, lmdb, round 1: reported nothing",
                     "- good: lmdb: why",
                     "| w | - | time | us | 2 (2 .. 2) | 3 (3 .. 3) 1.5x |"):
            self.assertIn(said, text)
        self.assertIn("tmpfs,good,memory,w,-,time,us,2,3,3,3,1.5,1.5,1.5\n", csv)
        self.assertIn("tmpfs,broken,dax,w,-,time,us,2,4,4,4,1,1,1\n", csv)

    def test_some_subjects_are_asked_only_what_has_a_mark(self):
        said = 'echo "result,${*},-,time,2,us" | tr " " "_"\n'
        program = "#!/bin/sh\n" + said
        for name, arguments, asked in (
                ("tpcc", (), "--workloads_tpcc"), ("good", (), None), ("good", ("--subjects", "memdb"), "")):
            _, _, csv = self.run_suite({name: program}, *arguments, "--rounds", "1")
            for subject in ("memdb", "dax-exclusive"):
                lines = [line for line in csv.splitlines() if f",{name},{subject}," in line]
                wanted = asked is not None and (not arguments or subject in arguments)
                self.assertEqual(len(lines), wanted, (name, subject, arguments))
                self.assertTrue(all(asked in line for line in lines), lines)

    def test_the_marks_get_rounds_of_their_own_beside_the_others(self):
        program = """#!/bin/sh
case "$*" in *--workloads*) echo result,narrow,-,time,2,us ;; *) echo result,wide,-,time,2,us ;; esac
"""
        _, text, csv = self.run_suite({"statements": program}, "--subjects", "dax", "--minutes", "0")
        self.assertIn("tmpfs,statements,dax,wide,-,time,us,1,", csv)
        self.assertIn("tmpfs,statements,dax,narrow,-,time,us,1,", csv)
        self.assertIn("- statements (tmpfs): round 5 of 6: no time left", text)
        _, _, csv = self.run_suite({"statements": program}, "--subjects", "dax")
        self.assertIn("tmpfs,statements,dax,narrow,-,time,us,3,", csv)

    def test_the_first_round_is_whole_and_later_ones_need_time(self):
        _, text, csv = self.run_suite({"good": GOOD}, "--rounds", "3", "--minutes", "0")
        self.assertIn("- good (tmpfs): round 2 of 3: no time left", text)
        self.assertIn("tmpfs,good,dax,w,-,time,us,1,2,2,2,1,1,1\n", csv)
        self.assertIn("tmpfs,good,memory,", csv)


if __name__ == "__main__":
    unittest.main()
