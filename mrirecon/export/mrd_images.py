"""MRD image files (HDF5): what Gadgetron and other tools of the ISMRM raw data format read images from.

Layout and meaning of the header are those of the format's standard (Inati et al., MRM 2017, doi 10.1002/mrm.26089).
"""

from pathlib import Path
from xml.sax.saxutils import escape

import h5py
import numpy as np

from mrirecon.export.hdf5 import DISCLAIMER, explained, hdf5_file
from mrirecon.export.images import Images, Origin, geometry_text

GROUP = "dataset/image_0"
#: MRD's numbers for float32 and complex64 pixels, and for images of magnitudes and of complex values.
FLOAT, COMPLEX_FLOAT = 5, 7
MAGNITUDE, COMPLEX = 1, 5
COMPLEX_PIXEL = np.dtype([("real", "<f4"), ("imag", "<f4")])
VECTOR = ("<f4", (3,))
HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("data_type", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("matrix_size", "<u2", (3,)),
        ("field_of_view", *VECTOR),
        ("channels", "<u2"),
        ("position", *VECTOR),
        ("read_dir", *VECTOR),
        ("phase_dir", *VECTOR),
        ("slice_dir", *VECTOR),
        ("patient_table_position", *VECTOR),
        ("average", "<u2"),
        ("slice", "<u2"),
        ("contrast", "<u2"),
        ("phase", "<u2"),
        ("repetition", "<u2"),
        ("set", "<u2"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("image_type", "<u2"),
        ("image_index", "<u2"),
        ("image_series_index", "<u2"),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
        ("attribute_string_len", "<u4"),
    ]
)


def write_mrd_images(path: Path, images: Images, origin: Origin) -> None:
    """Write one MRD image per slice, complex64 where the images are complex, else float32 magnitudes.

    position is the centre of voxel n // 2, read_dir the direction of growing x, phase_dir of y. Where geometry is
    unknown they are zero, as the image's attributes say. Raises ResourceError if the file cannot be written.
    """
    slices, height, width = images.shape
    attributes = _attributes(origin)
    with hdf5_file(path) as file:
        with explained(path):
            group = file.create_group(GROUP)
            group["header"] = np.stack([_header(images, origin, index, len(attributes)) for index in range(slices)])
            text = group.create_dataset("attributes", (slices,), h5py.string_dtype())
            text[:] = [attributes] * slices
            pixel = COMPLEX_PIXEL if images.complex else np.dtype("<f4")
            shape = (slices, 1, 1, height, width)
            data = group.create_dataset("data", shape, pixel, chunks=(1, *shape[1:]))
        for index in range(slices):
            image = np.ascontiguousarray(images.slice(index))
            with explained(path):
                data[index, 0, 0] = image.view(pixel)


def _header(images: Images, origin: Origin, index: int, attribute_length: int) -> np.ndarray:
    """One record of HEADER."""
    _, height, width = images.shape
    header = np.zeros((), HEADER)
    header["version"] = 1
    header["data_type"], header["image_type"] = (COMPLEX_FLOAT, COMPLEX) if images.complex else (FLOAT, MAGNITUDE)
    header["matrix_size"] = (width, height, 1)
    header["channels"] = 1
    header["slice"], header["image_index"] = index, index + 1
    header["attribute_string_len"] = attribute_length
    if voxel := origin.voxel_mm(images.shape):
        header["field_of_view"] = (voxel[2] * width, voxel[1] * height, voxel[0])
    if geometry := origin.geometry:
        header["position"] = geometry.centres_mm[index]
        header["read_dir"], header["phase_dir"] = geometry.x_direction, geometry.y_direction
        header["slice_dir"] = geometry.slice_direction
    return header


def _attributes(origin: Origin) -> str:
    facts = {
        "ImageProcessingHistory": f"{origin.software} {origin.method} R={origin.acceleration:.3g}",
        "ImageComments": f"{DISCLAIMER} Geometry: {geometry_text(origin.geometry)}",
    }
    metas = "".join(f"<meta><name>{k}</name><value>{escape(v)}</value></meta>" for k, v in facts.items())
    return f'<?xml version="1.0"?><ismrmrdMeta>{metas}</ismrmrdMeta>'
