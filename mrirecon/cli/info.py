"""`mrirecon info`: what a scan file holds, what would be done with it, and what is unknown."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mrirecon.acquisition.array_files import READABLE
from mrirecon.acquisition.axes import times
from mrirecon.acquisition.geometry import Geometry, patient_side
from mrirecon.acquisition.sampling import sampling_of
from mrirecon.acquisition.scan import Scan
from mrirecon.cli.options import add_scan_options, chosen_volumes, opened_scans
from mrirecon.cli.parser import ArgumentParser
from mrirecon.conditioning.partial_fourier import fraction_text
from mrirecon.physics.calibration import calibration_width
from mrirecon.weights import shipped_models

#: What the leading axis of a scan counts.
STACKS = {"slices": "slices", "readouts": "positions along the readout"}


def run(argv: list[str]) -> int:
    """Print the facts of the scan that `argv` names; returns the exit code."""
    options = _parser().parse_args(argv)
    scans = opened_scans(options.scan, options)
    facts = scan_facts(chosen_volumes(scans, options.volume)[0])
    facts["volumes"] = [scan.volume for scan in scans if scan.volume]
    print(json.dumps(facts) if options.json else _text(facts))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mrirecon info",
        description="Print what a scan file holds, what would be done with it, and what is unknown. The format is "
        "recognised by the file's content. Names, birth dates and other personal data are never read.",
    )
    add = parser.add_argument
    add("scan", type=Path, metavar="SCAN", help=f"raw data or k-space: {READABLE}")
    add("--volume", type=str | None, metavar="NAME", help="which of the file's volumes (default: the first)")
    add_scan_options(parser)
    add("--json", action="store_true", help="print one JSON object on stdout instead of text")
    return parser


def scan_facts(scan: Scan) -> dict[str, Any]:
    """Everything `mrirecon info` says, ready for JSON. Reads the k-space once."""
    header, survey = scan.header, scan.survey
    acquired_y, acquired_x = scan.acquired
    facts: dict[str, Any] = {
        "file": str(scan.path),
        "format": scan.format,
        "volume": scan.volume,
        "stack": scan.stack,
        "slices": scan.slices,
        "coils": scan.coils,
        "matrix": scan.shape[2:],
        "dtype": scan.stored_dtype,
        "readout_axis": header.readout_axis,
        "acquired": {"y": acquired_y, "x": acquired_x, "from": "header" if header.acquired else "zeros"},
        "sampling": _sampling_facts(scan),
        "contrast": header.contrast,
        "field_strength_t": header.field_strength_t,
        "tr_ms": header.tr_ms,
        "te_ms": header.te_ms,
        "ti_ms": header.ti_ms,
        "flip_angle_deg": header.flip_angle_deg,
        "recon_size": header.recon_size,
        "fov_mm": header.fov_mm,
        "voxel_mm": _voxel_mm(scan),
        "slice_thickness_mm": header.slice_thickness_mm,
        "geometry": _geometry_facts(scan.geometry),
        "conditioning": [asdict(step) for step in scan.steps],
        "noise_std": scan.noise_std,
        "scale": survey.scale,
        "dead_coils": survey.dead_coils,
        "empty_slices": survey.empty_slices,
        "target": scan.target_name,
        "notes": list(scan.notes),
    }
    if scan.doubt:
        facts["notes"].append(scan.doubt)
    facts["would_do"] = _plan(facts["sampling"], scan)
    facts["unknown"] = _unknown(facts)
    return facts


def _sampling_facts(scan: Scan) -> dict[str, Any]:
    if not scan.prospective:
        (y0, y1), (x0, x1) = scan.acquired
        return {"prospective": False, "source": "fully sampled", "acceleration": 1.0, "acs": (y1 - y0, x1 - x0)}
    sampling = sampling_of(scan)
    mask = sampling.mask[scan.middle_slice % len(sampling.mask)]
    return {
        "prospective": True,
        "source": sampling.source,
        "acceleration": round(sampling.acceleration, 3),
        "acs": calibration_width(mask),
    }


def _voxel_mm(scan: Scan) -> tuple[float, float] | None:
    if scan.geometry:
        return scan.geometry.pixel_mm
    fov, size = scan.header.fov_mm, scan.header.recon_size
    return (fov[0] / size[0], fov[1] / size[1]) if fov and size else None


def _geometry_facts(geometry: Geometry | None) -> dict[str, Any] | None:
    if geometry is None:
        return None
    return {
        "slices": geometry.slices,
        "slice_spacing_mm": geometry.spacing_mm,
        "x_direction": geometry.x_direction,
        "y_direction": geometry.y_direction,
        "slice_direction": geometry.slice_direction,
        "first_centre_mm": geometry.centres_mm[0],
        "patient_position": geometry.patient_position,
        "convention": geometry.convention,
        "proven": geometry.proven,
    }


def _plan(sampling: dict[str, Any], scan: Scan) -> list[str]:
    if sampling["prospective"]:
        first = f"Sampling: {sampling['source']}; the scan cannot be scored, as its missing samples are not known."
    else:
        first = "Sampling: all samples are used; --undersample KIND or --mask FILE drops some and scores the result."
    side = fraction_text(scan.acquired, scan.shape[2:])
    partial = [f"Partial Fourier: {side}; the rest stays zero, unless --partial-fourier fills it."] if side else []
    if scan.coils == 1:
        maps = "Coil maps: none are needed for one coil."
    elif scan.read_calibration:
        maps = "Coil maps: by ESPIRiT, from the separately acquired calibration lines."
    elif min(sampling["acs"]):
        maps = f"Coil maps: by ESPIRiT, from the fully sampled centre of {times(sampling['acs'])} (y × x)."
    else:
        maps = "Coil maps: the centre is not fully sampled, so they must be given (--maps FILE)."
    steps = [f"{step.name}: {step.done}" for step in scan.steps]
    method = f"Method: {next(iter(shipped_models()), 'cs')}, unless --method names another."
    return [*steps, *partial, first, maps, method]


def _unknown(facts: dict[str, Any]) -> list[str]:
    names = {
        "readout_axis": "readout axis (line masks take it as y)",
        "contrast": "contrast",
        "field_strength_t": "field strength",
        "tr_ms": "TR",
        "te_ms": "TE",
        "voxel_mm": "voxel size",
        "slice_thickness_mm": "slice thickness",
        "target": "reference image",
        "geometry": "position and orientation of the slices",
    }
    return [text for key, text in names.items() if facts[key] is None]


def _text(facts: dict[str, Any]) -> str:
    (rows, columns), sampling = facts["matrix"], facts["sampling"]
    (y0, y1), (x0, x1) = facts["acquired"]["y"], facts["acquired"]["x"]
    timing = [
        f"{name} {facts[key]:g} {unit}"
        for name, key, unit in (
            ("TR", "tr_ms", "ms"),
            ("TE", "te_ms", "ms"),
            ("TI", "ti_ms", "ms"),
            ("flip angle", "flip_angle_deg", "°"),
            ("field", "field_strength_t", "T"),
        )
        if facts[key] is not None
    ]
    image = [
        f"{name} {_rounded(facts[key])} {unit}"
        for name, key, unit in (
            ("matrix", "recon_size", "(y × x)"),
            ("field of view", "fov_mm", "mm"),
            ("voxel", "voxel_mm", "mm"),
        )
        if facts[key] is not None
    ]
    if sampling["prospective"]:
        measured = (
            f"undersampled when acquired ({sampling['source']}): acceleration {sampling['acceleration']:.2f}, "
            f"fully sampled centre {times(sampling['acs'])} (y × x)"
        )
    else:
        measured = "fully sampled"
    table = {
        "file": facts["file"],
        "format": facts["format"],
        "volumes": f"{len(facts['volumes'])}: {', '.join(facts['volumes'])}" if facts["volumes"] else None,
        "of these": f"{facts['volume']} (--volume shows another)" if facts["volumes"] else None,
        "k-space": f"{STACKS[facts['stack']]} {facts['slices']} × coils {facts['coils']} × y {rows} × x {columns}, "
        f"{facts['dtype']}",
        "readout axis": facts["readout_axis"] or "unknown",
        "acquired": f"rows {y0} to {y1 - 1}, columns {x0} to {x1 - 1} (from {facts['acquired']['from']})",
        "sampling": measured,
        "contrast": facts["contrast"],
        "sequence": ", ".join(timing),
        "image": ", ".join(image),
        "slice thickness": f"{facts['slice_thickness_mm']:g} mm" if facts["slice_thickness_mm"] else None,
        "orientation": _orientation(facts["geometry"]),
        "scale": f"{facts['scale']:.4g} (methods see k-space divided by it)",
        "dead coils": ", ".join(map(str, facts["dead_coils"])),
        "empty slices": ", ".join(map(str, facts["empty_slices"])),
        "reference": facts["target"],
    }
    lines = [f"{name:<17}{value}" for name, value in table.items() if value]
    lines += ["", "would be done", *(f"  - {sentence}" for sentence in facts["would_do"])]
    lines += ["", "unknown", f"  {', '.join(facts['unknown'])}"]
    if facts["notes"]:
        lines += ["", "notes", *(f"  - {sentence}" for sentence in facts["notes"])]
    return "\n".join(lines)


def _orientation(geometry: dict[str, Any] | None) -> str | None:
    if geometry is None:
        return None
    columns, rows, slices = (patient_side(geometry[f"{axis}_direction"]) for axis in ("x", "y", "slice"))
    doubt = "" if geometry["proven"] else "; unproven, check left and right against an image of the scanner"
    spacing = geometry["slice_spacing_mm"]
    apart = f"{spacing:.4g} mm apart" if spacing else "unevenly spaced"
    return f"columns towards {columns}, rows {rows}, slices {slices}, {apart} ({geometry['convention']}{doubt})"


def _rounded(sizes: tuple[float, ...]) -> str:
    return " × ".join(f"{size:.4g}" for size in sizes)
