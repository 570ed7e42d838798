"""Which files a reconstruction leaves, by the output's name and the formats asked for."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from mrirecon.errors import UsageError
from mrirecon.export.nifti import stem_of

FORMATS = ("hdf5", "nifti", "dicom", "mrd", "png")
FOLDER_DEFAULT = ("hdf5", "nifti", "png")
#: Suffix of a single output file → its format. A preview PNG is written beside each.
SUFFIXES = {".h5": "hdf5", ".hdf5": "hdf5", ".nii": "nifti", ".nii.gz": "nifti", ".mrd": "mrd"}
#: Names in a folder say nothing of the patient, whatever the input was called.
STEM = "reconstruction"
FOLDER_SUFFIXES = {"hdf5": ".h5", "nifti": ".nii.gz", "dicom": "_dicom", "mrd": ".mrd", "png": ".png"}


@dataclass(frozen=True)
class Outputs:
    """Where one volume goes, per format; None where a format was not asked for. dicom is a folder, the others files."""

    hdf5: Path | None = None
    nifti: Path | None = None
    dicom: Path | None = None
    mrd: Path | None = None
    png: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        return (path for f in fields(self) if (path := getattr(self, f.name)) is not None)

    def overwrite(self, file: Path) -> bool:
        """Whether an existing file is one of these, or of those that are written beside the NIfTI file."""
        if any(path.exists() and path.samefile(file) for path in self):
            return True
        if self.nifti is None:
            return False
        beside = re.compile(re.escape(stem_of(self.nifti)) + r"(_slice-\d+)?(_complex)?(\.json|\.nii|\.nii\.gz)", re.I)
        return file.resolve().parent == self.nifti.resolve().parent and bool(beside.fullmatch(file.resolve().name))


def outputs_for(output: Path, formats: Sequence[str], volume: str | None) -> Outputs:
    """The files of a volume when the user asks for `output`, a file name or a folder, and for `formats` (folders only).

    volume: its name goes into the files' names; None where the scan has one volume.
    Raises UsageError for an unknown suffix or format.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"there is no format '{unknown[0]}'; there are {', '.join(FORMATS)}.")
    label = f"_{volume}" if volume else ""
    suffix = "".join(output.suffixes[-2:]).lower() if output.suffix.lower() == ".gz" else output.suffix.lower()
    if output.is_dir() and suffix in SUFFIXES:
        raise UsageError(f"{output}: is a folder whose name ends like a file's; choose another output.")
    if not suffix and output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file; give a folder, or a file name with a suffix ({', '.join(SUFFIXES)}).")
    if not suffix or output.is_dir():
        wanted = formats or FOLDER_DEFAULT
        return Outputs(**{name: output / f"{STEM}{label}{FOLDER_SUFFIXES[name]}" for name in wanted})
    if suffix in (".dcm", ".dicom", ".ima"):
        raise UsageError(f"{output}: a DICOM series is a folder of files; try -o {output.stem} --formats dicom.")
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{output}: images are written as {', '.join(SUFFIXES)}, or into a folder in the formats that --formats "
            f"names (make it first if its name has a dot). Try -o {output.with_suffix('.h5')}."
        )
    if formats:
        raise UsageError(f"{output}: --formats is for folders; the suffix {suffix} says the format of a file.")
    stem = output.name[: -len(suffix)]
    named = output.with_name(f"{stem}{label}{output.name[-len(suffix) :]}")
    return Outputs(**{SUFFIXES[suffix]: named, "png": output.with_name(f"{stem}{label}.png")})
