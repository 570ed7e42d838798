import logging
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from mrirecon.acquisition.sampling import Sampling, sampling_of
from mrirecon.acquisition.scan import Scan
from mrirecon.errors import InputError, RejectedError, UsageError
from mrirecon.physics.coils import espirit
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator
from mrirecon.reconstruction.pipeline import centre_crop, measure, reconstruct_slice

CPU = torch.device("cpu")


class Adjoint(Reconstructor):
    """The zero-filled image, without a support of its own."""

    def forward(self, measurement: Measurement) -> list[Tensor]:
        return [SenseOperator(measurement).adjoint_data + 0.1]


def every_second_column(shape: tuple[int, int] = (48, 40), acs: int = 16) -> Tensor:
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, ::2] = True
    mask[:, 20 - acs // 2 : 20 + acs // 2] = True
    return mask


def undersampled(mask: Tensor) -> Sampling:
    return Sampling(mask=mask[None].numpy(), source="test", acceleration=2.0, retrospective=True)


def test_a_method_sees_nothing_outside_the_mask(make_scan) -> None:
    mask = every_second_column(acs=24)

    def spoil(kspace, index) -> None:
        kspace[:, :, ~mask[0].numpy()] *= -3

    def slices(scan: Scan) -> list[Measurement]:
        # The scale is the same too: the spoiled samples lie outside the central 24 × 24.
        return [data.measurement for data in measure(scan, undersampled(mask), device=CPU)]

    for plain, spoiled in zip(slices(make_scan()), slices(make_scan(edit=spoil)), strict=True):
        assert not plain.kspace[..., ~mask].any()
        torch.testing.assert_close(plain.kspace, spoiled.kspace, rtol=0, atol=0)
        torch.testing.assert_close(plain.sensitivities, spoiled.sensitivities, rtol=0, atol=0)


def test_kspace_is_in_units_of_the_scans_scale(make_scan) -> None:
    scan = make_scan()
    for data in measure(scan, sampling_of(scan), device=CPU):
        expected = torch.from_numpy(scan.kspace(data.index)) / scan.survey.scale
        torch.testing.assert_close(data.measurement.kspace[0], expected)


def test_the_reference_is_the_full_data_with_the_methods_maps(make_scan) -> None:
    scan = make_scan()
    data = next(measure(scan, undersampled(every_second_column()), device=CPU))
    maps = data.measurement.sensitivities
    full = Measurement(data.measurement.kspace, torch.ones(1, 1, 1, 1, dtype=torch.bool), maps)
    kspace = torch.from_numpy(scan.kspace(0))[None] / scan.survey.scale
    torch.testing.assert_close(data.reference, SenseOperator(full).adjoint(kspace)[0], rtol=1e-4, atol=1e-5)
    assert not data.reference[~data.support].any()


def test_undersampled_scans_have_no_reference(make_scan) -> None:
    mask = every_second_column().numpy()

    def acquire(kspace, index) -> None:
        kspace[:, ~mask] = 0

    scan = make_scan(edit=acquire)
    assert next(measure(scan, sampling_of(scan), device=CPU)).reference is None


def test_images_are_zero_outside_the_support(make_scan) -> None:
    data = next(measure(make_scan(), undersampled(every_second_column()), device=CPU))
    image = reconstruct_slice(Adjoint(), data)
    assert image.shape == (48, 40)
    assert 0 < data.support.float().mean() < 1
    assert not image[~data.support].any()
    assert (image[data.support].abs() > 0).all()


def test_inference_records_no_gradients(make_scan) -> None:
    class Learned(Reconstructor):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(()))
            self.dropout = torch.nn.Dropout(1.0)

        def forward(self, measurement: Measurement) -> list[Tensor]:
            image = SenseOperator(measurement).adjoint_data * self.gain
            return [self.dropout(image.real) + 0j, image]

    image = reconstruct_slice(
        Learned().train(), next(measure(make_scan(), undersampled(every_second_column()), device=CPU))
    )
    assert not image.requires_grad
    assert image.any()


def test_dead_coils_and_empty_slices_are_finite_and_warned_about_once(make_scan, caplog) -> None:
    def break_some(kspace, index) -> None:
        kspace[2] = 0
        if index == 1:
            kspace[:] = 0

    scan = make_scan(slices=3, edit=break_some)
    with caplog.at_level(logging.WARNING, "mrirecon"):
        images = [
            reconstruct_slice(Adjoint(), data)
            for data in measure(scan, undersampled(every_second_column()), device=CPU)
        ]
    assert [bool(image.any()) for image in images] == [True, False, True]
    assert all(torch.isfinite(torch.view_as_real(image)).all() for image in images)
    assert [record.message.split(":")[1] for record in caplog.records] == [
        " coils without signal (2 of 4) are left out.",
        " slices without samples (1) give empty images.",
    ]


def test_an_undersampled_scan_with_an_empty_slice_needs_no_mask_there(make_scan) -> None:
    mask = every_second_column().numpy()

    def acquire(kspace, index) -> None:
        kspace[:, ~mask] = 0
        if index == 0:
            kspace[:] = 0

    scan = make_scan(edit=acquire)
    empty, full = (reconstruct_slice(Adjoint(), data) for data in measure(scan, sampling_of(scan), device=CPU))
    assert not empty.any()
    assert full.any()


def test_a_diverging_method_is_an_error(make_scan) -> None:
    class Diverging(Reconstructor):
        def forward(self, measurement: Measurement) -> list[Tensor]:
            return [SenseOperator(measurement).adjoint_data / 0]

    data = next(measure(make_scan(), undersampled(every_second_column()), device=CPU))
    with pytest.raises(RejectedError, match="slice 0"):
        reconstruct_slice(Diverging(), data)


def test_too_small_a_centre_is_explained_with_file_and_slice(make_scan) -> None:
    mask = every_second_column(acs=2)
    with pytest.raises(UsageError, match=r"scan\.h5, slice 0: .*centre.*--acs"):
        next(measure(make_scan(), undersampled(mask), device=CPU))


# --- maps from a file


@pytest.fixture
def maps(slice_kspace) -> np.ndarray:
    kspace = torch.from_numpy(slice_kspace)[None]
    return espirit(kspace, torch.ones(1, 1, 48, 40, dtype=torch.bool))[0].numpy()


def write_maps(path: Path, maps: np.ndarray) -> Path:
    match path.suffix:
        case ".npy":
            np.save(path, maps)
        case ".npz":
            np.savez(path, some_name=maps)
        case ".h5":
            with h5py.File(path, "w") as file:
                file["sensitivity_maps"] = maps
        case ".mat":
            from scipy.io import savemat

            savemat(path, {"S": maps})
    return path


def test_one_slice_is_in_memory_whatever_their_number(make_scan, maps, tmp_path: Path) -> None:
    path = write_maps(tmp_path / "maps.npy", maps)

    def most_alive(slices: int) -> int:
        alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
        most = 0
        for data in measure(make_scan(slices), undersampled(every_second_column()), maps=path, device=CPU):
            alive.add(data.measurement.kspace)
            reconstruct_slice(Adjoint(), data)
            most = max(most, len(alive))
        return most

    assert most_alive(40) == most_alive(3) <= 2


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".mat"])
@pytest.mark.parametrize("per_slice", [False, True])
def test_maps_are_read_and_normalised(make_scan, maps, tmp_path: Path, suffix: str, per_slice: bool) -> None:
    stored = np.stack([2 * maps, 3j * maps]) if per_slice else 2 * maps
    path = write_maps(tmp_path / f"maps{suffix}", stored)
    phases = (1, 1j) if per_slice else (1, 1)
    slices = measure(make_scan(2), undersampled(every_second_column()), maps=path, device=CPU)
    for data, phase in zip(slices, phases, strict=True):
        np.testing.assert_allclose(data.measurement.sensitivities[0].numpy(), phase * maps, atol=1e-6)
        np.testing.assert_array_equal(data.support.numpy(), maps.any(axis=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps: maps[:3], "1 × 3 × 48 × 40 do not fit"),
        (lambda maps: maps.transpose(0, 2, 1), "do not fit"),
        (lambda maps: np.stack([maps] * 3), "maps for one slice serve all"),
        (lambda maps: np.abs(maps), "one complex array"),
        (lambda maps: maps[0], "one complex array"),
        (lambda maps: np.where(maps == maps[0, 24, 20], np.nan, maps), "NaN"),
    ],
)
def test_maps_that_do_not_fit_are_explained(make_scan, maps, tmp_path: Path, change, message: str) -> None:
    path = write_maps(tmp_path / "maps.npy", change(maps))
    with pytest.raises(InputError, match=message):
        list(measure(make_scan(2), undersampled(every_second_column()), maps=path, device=CPU))


def test_missing_maps_are_explained(make_scan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npy: there is no such file"):
        next(measure(make_scan(), undersampled(every_second_column()), maps=tmp_path / "none.npy", device=CPU))


# --- cropping


@pytest.mark.parametrize("size", [(4, 3), (5, 6), (7, 8), None, (20, 3)])
def test_cropping_keeps_the_centre_voxel_in_the_centre(size: tuple[int, int] | None) -> None:
    image = torch.arange(56).reshape(7, 8)
    height, width = (min(n, m) for n, m in zip(size or (7, 8), (7, 8), strict=True))
    top, left = 7 // 2 - height // 2, 8 // 2 - width // 2
    torch.testing.assert_close(centre_crop(image, size), image[top : top + height, left : left + width])
