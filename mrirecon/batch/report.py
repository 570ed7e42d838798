"""What people read: one page for the batch, one for each scan. Each is a single file without scripts."""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mrirecon import __version__
from mrirecon.atomic import atomic_path
from mrirecon.export.hdf5 import DISCLAIMER

if TYPE_CHECKING:
    from mrirecon.batch.run import Entry

REPORT, SUMMARY = "report.html", "summary.json"
#: Pixels across a picture on the batch's page.
THUMBNAIL = 320
#: Measurement → what it is called on a scan's page, and how it is written.
MEASUREMENTS = {
    "coils": ("coils with signal", "{:.0f}"),
    "matrix": ("matrix", "{:.0f}"),
    "acceleration": ("acceleration", "{:.2f}"),
    "acs": ("fully sampled centre, lines", "{:.0f}"),
    "snr": ("signal-to-noise ratio of the data", "{:.1f}"),
    "residual": ("residual on the measured samples, times the noise", "{:.2f}"),
    "misfit": ("signal of the measured samples that is not explained", "{:.2%}"),
    "spike": ("largest outer sample, times the median as far out", "{:.1f}"),
    "dead_coils": ("coils without signal", "{:.0%}"),
    "empty_slices": ("slices without samples", "{:.0%}"),
    "region": ("largest connected difference from the second reconstruction, of the object", "{:.2%}"),
    "noise": ("noise in the image, of the scan’s scale", "{:.4f}"),
}


def write_batch(folder: Path, entries: Sequence["Entry"], summary: Mapping[str, Any]) -> None:
    """Write report.html and summary.json of a batch into its folder, each whole or not at all."""
    with atomic_path(folder / SUMMARY) as temporary:
        temporary.write_text(json.dumps({**summary, "version": __version__, "disclaimer": DISCLAIMER}, indent=1))
    worst_first = {"FAILED": 0, "REJECT": 1, "REVIEW": 2}
    ordered = sorted(entries, key=lambda entry: worst_first.get(_word(entry), 3))
    counts = {word: sum(_word(entry) == word for entry in entries) for word in ("OK", "REVIEW", "REJECT", "FAILED")}
    lead = ", ".join(f'{count} <span class="word {word}">{word}</span>' for word, count in counts.items() if count)
    body = f"""<p>{_count(len(entries), "scan file")}: {lead or "none yet"}. What needs attention is on top.</p>
<table><thead><tr><th></th><th>scan</th><th>verdict</th><th>why</th><th>time</th></tr></thead>
<tbody>{"".join(_row(folder, entry) for entry in ordered)}</tbody></table>
<p class="note">Pictures: the slice that differs the most from a second, conventional reconstruction; that
reconstruction; their difference over the noise; the noise in the image. A verdict says what could be checked. A small
lesion that was invented or removed is seen by none of the checks.</p>"""
    with atomic_path(folder / REPORT) as temporary:
        temporary.write_text(_page("Batch reconstruction", body), encoding="utf-8")


def write_scan_page(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write report.html of one scan, from what its done.json will say, into its folder."""
    seconds = facts["seconds"]
    done = {
        "method": facts["method"] + (f", weights {facts['model_sha256'][:12]}…" if facts["model_sha256"] else ""),
        "on": f"{facts['device']} in {facts['precision']}",
        "time": f"{seconds['all']:.1f} s, {seconds['opening']:.2f} s of them to open the file",
        "input": f"{facts['scan']}, SHA-256 {facts['sha256'][:16]}…",
        "noise scan": facts["noise_scan"] or "none",
        "version": facts["version"],
    }
    body = f"""<p class="word {facts["verdict"]}">{facts["verdict"]}</p>
{_list(facts["reasons"])}
{"".join(_volume(folder, volume) for volume in facts["volumes"])}
<h2>How it was made</h2>
{_table(done)}
{"<h2>Warnings</h2>" + _list(facts["warnings"]) if facts["warnings"] else ""}"""
    (folder / REPORT).write_text(_page(facts["scan"], body), encoding="utf-8")


def _row(folder: Path, entry: "Entry") -> str:
    word = _word(entry)
    name = escape(entry.scan)
    picture = ""
    if entry.folder:
        name = f'<a href="{quote(entry.folder)}/{REPORT}">{name}</a>'
        pictures = sorted((folder / entry.folder).glob("checks*.png"))
        picture = f'<img src="{_thumbnail(pictures[0])}" alt="{escape(entry.scan)}">' if pictures else ""
    why = _list(entry.reasons) if entry.of is None else f"the same content as {escape(entry.of)}"
    time = f"{entry.seconds:.1f} s" if entry.seconds is not None else ""
    kept = " (from an earlier run)" if entry.state == "kept" else ""
    return (
        f"<tr><td>{picture}</td><td>{name}</td><td><span class='word {word}'>{word}</span>{kept}</td>"
        f"<td>{why}</td><td>{time}</td></tr>"
    )


def _word(entry: "Entry") -> str:
    """What a reader is to see first of an entry."""
    if entry.state == "failed":
        return "FAILED"
    return "DUPLICATE" if entry.state == "duplicate" else entry.verdict or "WAITING"


def _volume(folder: Path, volume: Mapping[str, Any]) -> str:
    checks = volume["checks"]
    title = f"<h2>{escape(volume['volume'])}: {volume['verdict']}</h2>" if volume["volume"] else ""
    shown = {
        text: " × ".join(form.format(value) for value in _values(checks[name]))
        for name, (text, form) in MEASUREMENTS.items()
        if checks.get(name) is not None
    }
    shown["noise map"] = checks["noise_map"]
    steps = {step["name"]: step["done"] for step in volume["conditioning"]}
    preview = volume["outputs"].get("png")
    images = _figure(folder / preview, "The images.") if preview else ""
    links = ", ".join(f'<a href="{quote(file)}">{escape(file)}</a>' for file in volume["outputs"].values())
    caption = (
        f"The slice that differs the most from {checks['second']}, that reconstruction, the difference of their "
        "magnitudes over the noise, and the noise."
    )
    return f"""{title}
{images}
<p>Files: {links}, <a href="{quote(checks["maps"])}">{escape(checks["maps"])}</a></p>
<h2>Checks</h2>
{_figure(folder / checks["picture"], caption)}
{_table(shown)}
<h2>Conditioning and sampling</h2>
{_table({**steps, "sampling": volume["sampling"]})}"""


def _values(value: Any) -> Iterable[float]:
    return value if isinstance(value, list) else [value]


def _table(rows: Mapping[str, str]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
    return f"<table>{cells}</table>"


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    text = escape(caption)
    return f'<figure><img src="data:image/png;base64,{data}" alt="{text}"><figcaption>{text}</figcaption></figure>'


@lru_cache(maxsize=4096)
def _thumbnail(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("L")
        small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _page(title: str, body: str) -> str:
    style = (files("mrirecon.batch") / "page.css").read_text()
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{body}
<footer>{DISCLAIMER} Made by mrirecon {__version__}.</footer>
</main>
</body>
</html>
"""
