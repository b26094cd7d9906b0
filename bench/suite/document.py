"""RESULTS.md: what was run on what, the marks, the plots, every median with its spread."""

import plots
from samples import Key

REFERENCE = "dax"


def number(value):
    """Three significant digits; from a million on with M, G or T."""
    if value == 0:
        return "0"
    if abs(value) < 1000:
        return f"{value:.3g}"
    for scale, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M")):
        if abs(value) >= scale:
            value /= scale
            return (f"{value:.3g}" if value < 1000 else f"{value:.0f}") + letter
    return f"{value:,.0f}".replace(",", " ")


def spread(summary):
    """median (low .. high)"""
    if summary.rounds == 1:
        return number(summary.median)
    return f"{number(summary.median)} ({number(summary.low)} .. {number(summary.high)})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def marks_section(verdicts):
    rows = []
    for mark, summary, cpu, met, floor, alone in verdicts:
        bound = f"{'<=' if mark.at_most else '>='} {mark.bound:g}"
        word = "not measured" if met is None else "met" if met else "**not met**"
        rows.append([mark.what, bound, spread(summary) if summary else "-",
                     str(summary.rounds) if summary else "-", spread(cpu) if cpu else "-",
                     spread(floor) if floor else "-", word, spread(alone) if alone else "-", mark.note])
    met = sum(1 for v in verdicts if v.met)
    measured = sum(1 for v in verdicts if v.met is not None)
    return (["## Marks", "",
             f"{met} of {measured} that were measured are met. Ratios are medians of the rounds' ratios,"
             " with the least and the greatest. Floor: stock SQLite on its memdb VFS in daxlite's place,"
             " which keeps bytes in DRAM and does nothing else. EXCLUSIVE: daxlite with locking_mode=EXCLUSIVE,"
             " the only connection that may write, as that to a `:memory:` database is.", ""]
            + table(["what", "mark", "measured", "rounds", "by CPU time", "floor", "", "EXCLUSIVE", "note"], rows))


def program_section(samples, medium, program):
    """One table: a line for each question, a column for each subject."""
    keys = [k for k in samples.keys() if k.medium == medium and k.program == program]
    subjects = [s for s in plots.COLOURS if any(k.subject == s for k in keys)]
    questions = list(dict.fromkeys((k.workload, k.parameter, k.metric, samples.unit(k))
                                   for k in keys))
    rows = []
    for workload, parameter, metric, unit in questions:
        row = [workload, parameter, metric, unit]
        for subject in subjects:
            key = Key(medium, program, subject, workload, parameter, metric)
            summary = samples.summary(key)
            ratio = samples.ratio(key, key._replace(subject=REFERENCE))
            text = spread(summary) if summary else "-"
            if ratio and subject != REFERENCE and summary.median:
                text += f" {number(ratio.median)}x"
            row.append(text)
        rows.append(row)
    return ([f"## {program} ({medium})", ""]
            + table(["workload", "parameter", "metric", "unit", *subjects], rows) + [""])


def left_out(skipped):
    """"PROGRAM: SUBJECT: does not apply: WHY", once for all subjects of which it is true."""
    subjects = {}
    for text in skipped:
        program, found, why = text.partition(": does not apply: ")
        name, _, subject = program.partition(": ")
        subjects.setdefault((name, why) if found and subject else (text, ""), []).append(subject)
    return [f"{name}: {', '.join(who)}: {why}" if why else name
            for (name, why), who in subjects.items()]


def write(path, run, samples, verdicts, drawn):
    """run: .facts [(what, text)], .how (a sentence), .warnings, .errors, .skipped [text]."""
    out = ["# Results of bench/run", "", run.how, ""]
    out += table(["", ""], [[what, text] for what, text in run.facts]) + [""]
    for warning in run.warnings:
        out += [f"**{warning}**", ""]
    if run.errors:
        out += ["## Errors", ""] + [f"- {text}" for text in run.errors] + [""]
    out += marks_section(verdicts) + [""]
    if drawn:
        out += ["## Plots", "", "Boxes and points are medians, the thin lines the spread over rounds.", ""]
        for name, title in drawn:
            out += [f"![{title}]({name})", ""]
    out += ["## Figures", "",
            "Each number is the median over rounds (least .. greatest); `x`: as a multiple of `dax`, the"
            " median of the rounds' ratios. What each program does is in the comment at the top of its"
            " source; every sample is in `samples.csv`, these tables are in `results.csv`.", ""]
    for medium, program in dict.fromkeys((k.medium, k.program) for k in samples.keys()):
        out += program_section(samples, medium, program)
    if run.skipped:
        out += ["## Left out", ""] + [f"- {text}" for text in left_out(run.skipped)] + [""]
    with open(path, "w", encoding="utf-8") as stream:
        stream.write("\n".join(out))
