"""`mrirecon compare`: did a change help? Two runs of `mrirecon evaluate`, paired."""

from pathlib import Path

from mrirecon.cli.parser import ArgumentParser


def run(argv: list[str]) -> int:
    """Print the comparison that `argv` asks for; returns the exit code."""
    parser = ArgumentParser(
        prog="mrirecon compare",
        description="Compare two runs of mrirecon evaluate: B minus A, paired by subject, with 95 % bootstrap "
        "intervals of the median and Wilcoxon signed ranks corrected by Holm. With n < 6: values, no p.",
    )
    parser.add_argument("run_a", type=Path, metavar="RUN_A", help="folder of a run, or its results.csv: before")
    parser.add_argument("run_b", type=Path, metavar="RUN_B", help="the other: after")
    parser.add_argument("-o", "--output", type=Path | None, metavar="FILE", help="write it as Markdown, too")
    options = parser.parse_args(argv)
    from mrirecon.atomic import atomic_path
    from mrirecon.evaluation.compare import compare

    found = compare(options.run_a, options.run_b)
    lines = [f"A: {options.run_a}", f"B: {options.run_b}", "", found.table().markdown(), *found.verdicts()]
    if found.unmatched:
        lines.append(f"{found.unmatched} lines are in one run only and were left out.")
    print("\n".join(lines))
    if options.output:
        with atomic_path(options.output) as temporary:
            temporary.write_text("\n".join(["# Two runs compared", "", *lines, ""]), encoding="utf-8")
    return 0
