"""Images to simulate from that the user gives: NIfTI magnitude volumes and label maps.

A stored magnitude image was often zero-filled: interpolated to a finer matrix than was measured. Simulating from it as
it is would flatter every reconstruction ("implicit data crimes", Shimron et al., PNAS 119, 2022); `crop_to_measured`
goes back to the matrix that was measured.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrirecon.errors import InputError, UsageError
from mrirecon.simulation.contrast import protocol_of, signal
from mrirecon.simulation.tissues import Tissue

Array = NDArray[np.float32]

#: The measured extent ends where k-space power falls by more than this many decades within a tenth of the axis. Beyond
#: a third of it natural images lose less than half of that, filtered edges of measured k-space and zero-filling more.
EDGE_DECADES = 0.6
EDGE_SEARCH_START = 0.35

#: Label numbers of FreeSurfer, with SynthSeg's and CHARM's for the rest of the head. Left and right alike.
TISSUE_OF_LABEL: dict[int, Tissue] = (
    dict.fromkeys((2, 41, 7, 46, 16, 28, 60, 77, 78, 79, 85, 251, 252, 253, 254, 255, 512, 530), Tissue.WHITE)
    | dict.fromkeys((3, 42, 8, 47, 17, 53, 18, 54, 136, 137, 163, 164), Tissue.GREY)
    | dict.fromkeys((4, 43, 5, 44, 14, 15, 24, 72), Tissue.CSF)
    | dict.fromkeys((10, 49), Tissue.THALAMUS)
    | dict.fromkeys((11, 50, 26, 58), Tissue.CAUDATE)
    | dict.fromkeys((12, 51), Tissue.PUTAMEN)
    | dict.fromkeys((13, 52), Tissue.PALLIDUM)
    | dict.fromkeys((25, 57), Tissue.LESION)
    | dict.fromkeys((30, 62, 502, 514), Tissue.BLOOD)
    | dict.fromkeys((31, 63), Tissue.PLEXUS)
    | {0: Tissue.AIR, 506: Tissue.VITREOUS, 507: Tissue.FAT, 508: Tissue.MUSCLE, 509: Tissue.MUSCLE}
    | {511: Tissue.SKIN, 515: Tissue.BONE, 516: Tissue.MARROW}
)
#: What labels that are not in the table are taken for.
UNKNOWN_TISSUE = Tissue.MUSCLE


def load_volume(path: Path, slice_axis: int = 2) -> tuple[NDArray[np.generic], tuple[float, float, float]]:
    """A NIfTI volume as (slices, y, x) in its stored data type, and its (slice, y, x) voxel sizes in mm.

    slice_axis: array axis of the file that counts the slices. Rows run from anterior to posterior (from superior to
    inferior where slices are coronal) and columns from the patient's right to left or anterior to posterior, as
    radiologists look at slices, according to the file's orientation. A fourth axis of length 1 is dropped. Raises
    InputError if the file is not a readable 3D NIfTI volume.
    """
    import nibabel

    try:
        file: Any = nibabel.load(path)
        volume = np.asanyarray(file.dataobj)
        codes = nibabel.aff2axcodes(file.affine)
        sizes = [float(size) for size in file.header.get_zooms()[:3]]
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path}: cannot be read as a NIfTI volume ({error}); give a .nii or .nii.gz file.") from error
    if volume.ndim == 4 and volume.shape[3] == 1:
        volume = volume[..., 0]
    if volume.ndim != 3 or volume.dtype.kind not in "biuf":
        raise InputError(f"{path}: is {volume.ndim}D, {volume.dtype}; a 3D volume of real numbers is needed.")
    if not np.isfinite(volume).all():
        raise InputError(f"{path}: holds NaN or infinite values; replace them first.")
    in_plane = [axis for axis in range(3) if axis != slice_axis]
    # Rows follow the superior-inferior axis if it lies in the plane, else the anterior-posterior one.
    rows = min(in_plane, key=lambda axis: next(i for i, pair in enumerate(("SI", "AP", "LR")) if codes[axis] in pair))
    columns = next(axis for axis in in_plane if axis != rows)
    order = (slice_axis, rows, columns)
    volume = volume.transpose(order)
    # An axis named by its end: rows shall end posterior or inferior, columns left or posterior.
    if codes[rows] not in "PI":
        volume = volume[:, ::-1]
    if codes[columns] not in "LP":
        volume = volume[:, :, ::-1]
    return volume, (sizes[order[0]], sizes[order[1]], sizes[order[2]])


def load_magnitude(path: Path, slice_axis: int = 2) -> tuple[Array, tuple[float, float, float]]:
    """Magnitude slices of a NIfTI volume, float32 (slices, y, x), and their (slice, y, x) voxel sizes in mm.

    k-space is cropped to its measured extent, empty slices are left out, and each slice is divided by its 99.9th
    percentile. Raises InputError if nothing is in it.
    """
    volume, voxel = load_volume(path, slice_axis)
    images = magnitude_slices(volume, path)
    return images, _voxel_of(images, volume, voxel)


def load_magnitude_with_lesions(
    path: Path, lesions: Path
) -> tuple[Array, NDArray[np.bool_], tuple[float, float, float]]:
    """As `load_magnitude`, but only the slices with lesions, and with their masks (slices, y, x).

    lesions: a NIfTI volume of the same shape, not zero in lesions. Raises InputError if it has another, or no lesions.
    """
    volume, voxel = load_volume(path)
    mask = load_volume(lesions)[0] != 0
    if mask.shape != volume.shape:
        raise InputError(f"{lesions}: has the shape {mask.shape}, but {path} has {volume.shape}; give its own.")
    there = mask.any(axis=(1, 2))
    if not there.any():
        raise InputError(f"{lesions}: marks no lesions; leave it out.")
    volume, mask = volume[there], mask[there]
    images = magnitude_slices(volume, path, all_slices=True)
    resampled = on_coarser_matrix(mask.astype(np.float32), images.shape[1:]).real > 0.5
    return images, resampled, _voxel_of(images, volume, voxel)


def _voxel_of(
    images: Array, volume: NDArray[np.generic], voxel: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Voxel sizes of what was cropped in k-space from a volume with those."""
    y, x = (size * n / m for size, n, m in zip(voxel[1:], volume.shape[1:], images.shape[1:], strict=True))
    return voxel[0], y, x


def magnitude_slices(volume: NDArray[np.generic], path: Path, all_slices: bool = False) -> Array:
    """Slices of a volume (slices, y, x) as `load_magnitude` gives them; path: of its file, for the error.

    all_slices: leave none out; there are no empty ones.
    """
    if not volume.any():
        raise InputError(f"{path}: holds only zeros; there is nothing to simulate from.")
    image = crop_to_measured(np.abs(volume.astype(np.float32)))
    top = np.percentile(image, 99.9, axis=(1, 2), keepdims=True)
    filled = all_slices | (top.ravel() > 0.05 * top.max())
    return image[filled] / top[filled]


def crop_to_measured(image: NDArray[np.floating]) -> Array:
    """Undo zero-filling: magnitude (y, x) or (slices, y, x) on the matrix that was measured, float32.

    The extent of k-space beyond which its energy vanishes is estimated along each in-plane axis, once for all slices;
    where there is no such edge, the axis stays as it is. Intensities are kept. The image must not be zero everywhere.
    """
    import torch

    from mrirecon.physics.fourier import fftc

    power = fftc(torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))).abs().square().numpy()
    power = power.reshape(-1, *power.shape[-2:]).mean(axis=0)
    return np.abs(on_coarser_matrix(image, (measured_extent(power.sum(axis=1)), measured_extent(power.sum(axis=0)))))


def on_coarser_matrix(image: NDArray[np.floating], matrix: tuple[int, int]) -> NDArray[np.complex64]:
    """A real image (..., y, x) as a scanner sees it that measures only so much of k-space; intensities are kept."""
    import torch

    from mrirecon.physics.fourier import fftc, ifftc

    kspace = fftc(torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)))
    top, left = (n // 2 - m // 2 for n, m in zip(image.shape[-2:], matrix, strict=True))
    block = kspace[..., top : top + matrix[0], left : left + matrix[1]]
    return (ifftc(block) * (np.prod(matrix) / np.prod(image.shape[-2:])) ** 0.5).numpy()


def measured_extent(profile: NDArray[np.floating]) -> int:
    """Number of central samples of a k-space power profile (centred, length n) that were measured; n if all."""
    n = len(profile)
    half = n // 2
    reach = max(half // 20, 1)
    # An image is real: both halves hold the same.
    index = np.arange(half)
    decades = np.log10((profile[half + index] + profile[half - index]) / 2 + 1e-12 * profile.max())
    smooth = np.convolve(np.pad(decades, reach // 2, mode="edge"), np.ones(reach) / reach, mode="valid")[:half]
    centre = np.arange(max(int(EDGE_SEARCH_START * half), reach), half - reach)
    if len(centre) == 0:
        return n
    drop = smooth[centre - reach] - smooth[centre + reach]
    steepest = int(drop.argmax())
    return 2 * int(centre[steepest]) if drop[steepest] > EDGE_DECADES else n


def load_labels(path: Path, slice_axis: int = 2) -> tuple[NDArray[np.int32], tuple[float, float, float]]:
    """A label map as int32 (slices, y, x), empty slices left out, and its (slice, y, x) voxel sizes in mm.

    Raises InputError if the volume is not one of whole numbers, or empty.
    """
    volume, sizes = load_volume(path, slice_axis)
    labels = np.rint(volume).astype(np.int32)
    if (labels != volume).any():
        raise InputError(f"{path}: is not a label map: its values are not integers. Leave out --labels for an image.")
    filled = labels.any(axis=(1, 2))
    if not filled.any():
        raise InputError(f"{path}: holds only label 0 (background); there is nothing to simulate from.")
    return labels[filled], sizes


def labels_to_image(labels: NDArray[np.integer], contrast: str) -> Array:
    """Signal of a label map in "t1", "t2", "flair" or "pd": float32, same shape, largest tissue signal 1.

    Labels are FreeSurfer's (see TISSUE_OF_LABEL). Unknown labels are imaged as muscle: a middling soft tissue.
    """
    protocol = protocol_of(contrast)
    numbers, index = np.unique(labels, return_inverse=True)
    tissues = [TISSUE_OF_LABEL.get(int(number), UNKNOWN_TISSUE) for number in numbers]
    values = np.array([signal(tissue, protocol) for tissue in tissues], dtype=np.float32)
    if values.max() <= 0:
        raise UsageError("the label map holds no tissue that gives signal.")
    return (values / values.max())[index].reshape(labels.shape)


def random_contrast(labels: NDArray[np.integer], rng: np.random.Generator) -> Array:
    """A contrast that no scanner has, for training: float32 in [0, 1], same shape (y, x) or (slices, y, x) as `labels`.

    Each label but background gets a random mean and a fine texture of a random strength; edges are blurred a little,
    as partial volume does; a smooth shading of up to a tenth lies over all.
    """
    from scipy.ndimage import gaussian_filter

    numbers, index = np.unique(labels, return_inverse=True)
    index = index.reshape(labels.shape)
    means = rng.uniform(0.05, 1, len(numbers)).astype(np.float32)
    strengths = rng.uniform(0, 0.06, len(numbers)).astype(np.float32)
    means[numbers == 0], strengths[numbers == 0] = 0, 0
    plane = (0,) * (labels.ndim - 2)

    def smooth_noise(sigma: float) -> Array:
        noise = gaussian_filter(rng.standard_normal(labels.shape, dtype=np.float32), (*plane, sigma, sigma))
        return noise / (noise.std() + 1e-9)

    image = means[index] + strengths[index] * smooth_noise(rng.uniform(0.6, 2.5))
    blur = rng.uniform(0.4, 0.8)
    shading = 1 + 0.05 * np.clip(smooth_noise(max(labels.shape[-2:]) / 6), -2, 2)
    image = gaussian_filter(image, (*plane, blur, blur)) * shading
    return np.clip(image / max(float(image.max()), 1e-6), 0, 1).astype(np.float32)
