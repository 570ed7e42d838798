from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mrirecon.conditioning.opening import open_scans
from mrirecon.conditioning.options import Conditioning
from mrirecon.data.batch import collate
from mrirecon.data.datamodule import ScanData
from mrirecon.data.index import index_volumes
from mrirecon.data.manifest import Entry, Manifest, write_manifest
from mrirecon.data.sampler import EpochSampler
from mrirecon.data.scans import ScanSlices, scaled_slice
from mrirecon.data.undersampling import Undersampling
from mrirecon.errors import InputError

MASKS = Undersampling(masks=("random",), acceleration=(3, 3), acs=(6, 6))


@pytest.mark.parametrize("shape", [(2, 3, 24, 20), (3, 5, 37, 53)])
@pytest.mark.parametrize("scale", [1.7, 3.3e-5, 9.9e7])
def test_a_slice_is_the_k_space_divided_by_the_scale_bit_for_bit(tmp_path, write_kspace, shape, scale):
    (scan,) = open_scans(write_kspace(tmp_path / "a.h5", shape))
    for index in range(shape[0]):
        expected = torch.from_numpy(scan.kspace(index)) / scale
        assert torch.equal(torch.from_numpy(scaled_slice(scan, index, scale)), expected)


@pytest.mark.parametrize("form", ["complex128", "chunked", "one coil", "npy"])
def test_other_forms_of_storage_give_the_same_slices(tmp_path, write_kspace, form):
    path = write_kspace(tmp_path / "a.h5", (2, 1 if form == "one coil" else 3, 24, 20))
    (expected,) = (scaled_slice(scan, 1, 2e-5) for scan in open_scans(path))
    with h5py.File(path) as file:
        kspace = file["kspace"][...]
    other = tmp_path / "other"
    if form == "npy":
        np.save(other.with_suffix(".npy"), kspace[1])
        other = other.with_suffix(".npy")
    else:
        with h5py.File(other, "w") as file:
            file.attrs["acquisition"] = "AXT2"
            if form == "chunked":
                file.create_dataset("kspace", data=kspace, chunks=(1, 2, 5, 7), compression="gzip")
            else:
                file["kspace"] = kspace[:, 0] if form == "one coil" else kspace.astype(form)
    (scan,) = open_scans(other)
    np.testing.assert_array_equal(scaled_slice(scan, scan.slices - 1, 2e-5), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1j * np.inf])
def test_nan_and_infinity_are_refused(tmp_path, write_kspace, value):
    path = write_kspace(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["kspace"][1, 2, 23, 19] = value
    (scan,) = open_scans(path)
    scaled_slice(scan, 0, 1.0)
    with pytest.raises(InputError, match=r"a\.h5: slice 1 holds NaN"):
        scaled_slice(scan, 1, 1.0)


def test_slices_do_not_share_memory(tmp_path, write_kspace):
    slices = ScanSlices(index_volumes([write_kspace(tmp_path / "a.h5")]), MASKS, None, 0)
    first = slices[0].kspace
    kept = first.clone()
    slices[1].kspace.zero_()
    slices[0].kspace.zero_()
    assert torch.equal(first, kept)


def test_one_slice_is_a_batch_without_a_copy(tmp_path, write_kspace):
    example = ScanSlices(index_volumes([write_kspace(tmp_path / "a.h5")]), MASKS, None, 0)[0]
    batch = collate([example])
    assert batch["kspace"].data_ptr() == example.kspace.data_ptr()
    assert batch["kspace"].shape == (1, *example.kspace.shape)


def test_undersampled_scans_are_refused_at_once(tmp_path, write_kspace):
    path = write_kspace(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["kspace"][..., 1::2] = 0
    with pytest.raises(InputError, match="undersampled; training needs"):
        ScanSlices(index_volumes([path]), MASKS, None, 0)


def test_all_volumes_of_a_3d_file_are_used_and_conditioned(tmp_path):
    # SKM-TEA's layout: hybrid k-space (x, ky, kz, echo, coil) of two echoes.
    path = tmp_path / "knee.h5"
    numbers = np.random.default_rng(0).standard_normal((3, 24, 20, 2, 4, 2), dtype=np.float32)
    with h5py.File(path, "w") as file:
        file["kspace"] = numbers.view(np.complex64)[..., 0]
        file["maps"] = np.ones((3, 24, 20, 4, 1), np.complex64)
        file["target"] = np.ones((3, 24, 20, 2, 1), np.complex64)
    data = ScanData([path], [path], MASKS, conditioning=Conditioning(coils=2))
    data.setup("fit")
    assert len(data.training) == 6
    assert data.training[5].kspace.shape == (2, 24, 20)
    assert [data.validation[i].volume for i in range(6)] == [0, 0, 0, 1, 1, 1]


def test_raw_data_train(shared):
    path = shared / "data" / "kspace" / "phantom_gre_2ch_siemens.dat"
    data = ScanData([path], [path], MASKS)
    data.setup("fit")
    example = data.training[0]
    assert example.kspace.isfinite().all()
    assert example.kspace.shape[1:] == example.mask.shape[1:]


def test_a_manifest_stands_for_the_rows_of_its_split(tmp_path, write_kspace):
    names = {"a.h5": "train", "b.h5": "train", "c.h5": "val", "d.h5": "test"}
    for name in names:
        write_kspace(tmp_path / name)
    rows = tuple(Entry(name, split=split) for name, split in names.items())
    write_manifest(Manifest("mine", rows), manifest := tmp_path / "mine.yaml")
    data = ScanData([manifest], [manifest], MASKS)
    data.prepare_data()
    data.setup("fit")
    assert [volume.path.name for volume in data.training.volumes] == ["a.h5", "b.h5"]
    assert [volume.path.name for volume in data.validation.volumes] == ["c.h5"]


def test_loader_processes_give_what_one_process_gives(tmp_path, write_kspace):
    slices = ScanSlices(index_volumes([write_kspace(tmp_path / "a.h5", (4, 2, 24, 20))]), MASKS, None, 0)
    batches = [
        list(DataLoader(slices, sampler=EpochSampler(4, 0), collate_fn=collate, num_workers=workers))
        for workers in (0, 2)
    ]
    for one, two in zip(*batches, strict=True):
        assert torch.equal(one["kspace"], two["kspace"])
        assert torch.equal(one["mask"], two["mask"])


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_memory_is_flat_over_an_epoch(tmp_path, write_kspace):
    # 40 files of 6 slices of 1 MB: anything kept per slice, or per file beyond headers, would exceed the bound.
    files = [write_kspace(tmp_path / f"{n}.h5", (6, 4, 192, 160), seed=n) for n in range(40)]
    slices = ScanSlices(index_volumes(files), MASKS, None, 0)
    order = list(EpochSampler(len(slices), 0))
    for index in order[:20]:
        collate([slices[index]])
    before = resident_bytes()
    for index in order[20:]:
        collate([slices[index]])
    assert len(order[20:]) > 200
    assert resident_bytes() - before < 16e6
