"""Facts from the ISMRMRD header (XML) of fastMRI files: of the acquisition only; who was scanned is never read."""

from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException

from mrirecon.acquisition.mrd_header import header_root, number, positive
from mrirecon.acquisition.scan import Header


def header_of(xml: bytes, rows: int, columns: int) -> tuple[Header, list[str]]:
    """Header of a fastMRI file with k-space of `rows` (the readout) × `columns` (phase encodes), and notes.

    In the ISMRMRD header x is the readout and y the phase encode, so x describes our rows. Columns that were padded
    with zeros lie outside padding_left = encoded y // 2 − center to padding_right = padding_left + maximum + 1.
    """
    try:
        root = header_root(xml)
    except (ParseError, DefusedXmlException, ValueError):
        note = "The header is damaged: field, timing, field of view and padding are unknown."
        return Header(readout_axis="y"), [note]
    notes = []
    encoded_y = number(root, "encoding/encodedSpace/matrixSize/y")
    limits = "encoding/encodingLimits/kspace_encoding_step_1"
    center, maximum = number(root, f"{limits}/center"), number(root, f"{limits}/maximum")
    acquired = None
    if encoded_y and center is not None and maximum is not None:
        left = int(encoded_y) // 2 - int(center)
        right = left + int(maximum) + 1
        if int(encoded_y) == columns and 0 <= left < right:
            acquired = ((0, rows), (left, min(right, columns)))
        else:
            notes.append("The header's encoding limits do not fit the k-space; the acquired range is found from zeros.")
    size_x, size_y = (positive(number(root, f"encoding/reconSpace/matrixSize/{axis}")) for axis in "xy")
    fov_x, fov_y, fov_z = (positive(number(root, f"encoding/reconSpace/fieldOfView_mm/{axis}")) for axis in "xyz")
    slabs = positive(number(root, "encoding/reconSpace/matrixSize/z")) or 1
    return Header(
        readout_axis="y",
        acquired=acquired,
        recon_size=(int(size_x), int(size_y)) if size_x and size_y else None,
        fov_mm=(fov_x, fov_y) if fov_x and fov_y else None,
        slice_thickness_mm=fov_z / slabs if fov_z else None,
        field_strength_t=positive(number(root, "acquisitionSystemInformation/systemFieldStrength_T")),
        tr_ms=positive(number(root, "sequenceParameters/TR")),
        te_ms=positive(number(root, "sequenceParameters/TE")),
        ti_ms=positive(number(root, "sequenceParameters/TI")),
        flip_angle_deg=positive(number(root, "sequenceParameters/flipAngle_deg")),
    ), notes
