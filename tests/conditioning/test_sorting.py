"""Readouts are told apart by their flags and counters, and become one Scan per volume with the facts known of it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.acquisition.readouts import Flag, Limits, Readouts, System
from mrirecon.acquisition.scan import Scan
from mrirecon.conditioning.options import SKIPPABLE, Conditioning
from mrirecon.conditioning.sorting import noise_of, sort_readouts
from mrirecon.errors import InputError

Make = Callable[..., Any]
DONE_HERE = ("flags", "readout-ends", "centring", "averages", "calibration", "slice-order")


def sort(readouts: Readouts, *skip: Any) -> list[Scan]:
    return sort_readouts(readouts, Conditioning(skip=skip))


def sort_one(readouts: Readouts, *skip: Any) -> Scan:
    (scan,) = sort(readouts, *skip)
    return scan


def read_all(scan: Scan) -> np.ndarray:
    return np.stack([scan.kspace(index) for index in range(scan.slices)])


def read_calibration(scan: Scan) -> np.ndarray:
    assert scan.read_calibration is not None
    return np.stack([scan.read_calibration(index) for index in range(scan.slices)])


def done(scan: Scan) -> dict[str, str]:
    return {step.name: step.done for step in scan.steps}


def in_encoding(readouts: Readouts, number: int) -> Readouts:
    heads = readouts.heads.copy()
    heads["encoding"] = number
    return replace(readouts, heads=heads)


class TestFlags:
    NOT_IMAGING = (
        Flag.NOISE,
        Flag.CALIBRATION,
        Flag.NAVIGATION,
        Flag.PHASE_CORRECTION,
        Flag.FEEDBACK,
        Flag.DUMMY,
        Flag.REAL_TIME_FEEDBACK,
        Flag.SURFACE_COIL_CORRECTION,
        Flag.PHASE_STABILIZATION,
        Flag.PHASE_STABILIZATION_REFERENCE,
    )

    @pytest.mark.parametrize("flag", NOT_IMAGING)
    def test_what_is_not_imaging_is_set_aside(
        self, make_readouts: Make, random_kspace: Make, join: Make, flag: Flag
    ) -> None:
        kspace = random_kspace(2, 2, 20, 8)
        scan = sort_one(join(make_readouts(kspace + 9, flags=flag), make_readouts(kspace)))
        assert np.array_equal(read_all(scan), kspace)
        assert done(scan)["flags"].startswith("40 imaging readouts; set aside: 40 ")
        with pytest.raises(InputError, match="no imaging readouts, only 40"):
            sort(make_readouts(kspace, flags=flag))

    def test_calibration_that_is_also_imaging_is_imaging(self, make_readouts: Make, random_kspace: Make) -> None:
        kspace = random_kspace(1, 2, 6, 8)
        for flags in (Flag.CALIBRATION_AND_IMAGING, Flag.CALIBRATION_AND_IMAGING | Flag.CALIBRATION):
            scan = sort_one(make_readouts(kspace, flags=flags))
            assert np.array_equal(read_all(scan), kspace)
            assert scan.read_calibration is None

    def test_skipping_flags_takes_all(self, make_readouts: Make, random_kspace: Make, join: Make) -> None:
        kspace = random_kspace(1, 2, 6, 8)
        scan = sort_one(join(make_readouts(kspace, rows=[0, 1]), make_readouts(kspace, flags=Flag.DUMMY)), "flags")
        np.testing.assert_allclose(read_all(scan), kspace)
        assert done(scan)["flags"] == "skipped as asked"

    def test_compressed_samples_are_refused(self, make_readouts: Make, random_kspace: Make) -> None:
        with pytest.raises(InputError, match="ACQ_COMPRESSION"):
            sort(make_readouts(random_kspace(1, 2, 6, 8), flags=Flag(1 << 53)))


class TestRefusals:
    @pytest.mark.parametrize("trajectory", ["radial", "spiral", "goldenangle", "other"])
    def test_other_trajectories(self, make_readouts: Make, random_kspace: Make, trajectory: str) -> None:
        with pytest.raises(InputError, match=f"trajectory is '{trajectory}'"):
            sort(make_readouts(random_kspace(1, 2, 6, 8), encoding={"trajectory": trajectory}))

    def test_echo_planar_that_needs_phase_correction(
        self, make_readouts: Make, random_kspace: Make, join: Make
    ) -> None:
        kspace, epi = random_kspace(1, 2, 6, 8), {"trajectory": "epi"}
        with pytest.raises(InputError, match="ACQ_IS_REVERSE"):
            sort(make_readouts(kspace, encoding=epi, reverse=[1, 3]))
        navigators = make_readouts(kspace, flags=Flag.PHASE_CORRECTION)
        with pytest.raises(InputError, match="ACQ_IS_PHASECORR_DATA"):
            sort(join(make_readouts(kspace, encoding=epi), navigators))
        with pytest.raises(InputError, match="echo-planar"):
            sort(join(make_readouts(kspace, reverse=[1, 3]), navigators))
        assert np.array_equal(read_all(sort_one(make_readouts(kspace, encoding=epi))), kspace)
        assert np.array_equal(read_all(sort_one(join(make_readouts(kspace), navigators))), kspace)

    def test_multiband(self, make_readouts: Make, random_kspace: Make) -> None:
        with pytest.raises(InputError, match="multiband"):
            sort(make_readouts(random_kspace(1, 2, 6, 8), encoding={"multiband": 2}))

    @pytest.mark.parametrize("matrix", [(0, 6, 1), (8, -1, 1), (65535, 65535, 1), (8, 1 << 40, 1)])
    def test_matrices_that_cannot_be(
        self, make_readouts: Make, random_kspace: Make, matrix: tuple[int, int, int]
    ) -> None:
        with pytest.raises(InputError, match="encoded matrix"):
            sort(make_readouts(random_kspace(1, 2, 6, 8), encoding={"encoded_matrix": matrix}))

    def test_differing_coils(self, make_readouts: Make, random_kspace: Make, join: Make) -> None:
        mixed = join(make_readouts(random_kspace(1, 2, 6, 8)), make_readouts(random_kspace(1, 3, 6, 8)))
        with pytest.raises(InputError, match=r"different numbers of coils \(2, 3"):
            sort(mixed)

    def test_an_encoding_that_is_not_there(self, make_readouts: Make, random_kspace: Make) -> None:
        with pytest.raises(InputError, match="does not describe"):
            sort(in_encoding(make_readouts(random_kspace(1, 2, 6, 8)), 3))


class TestVolumes:
    def test_one_volume_has_no_label(self, make_readouts: Make, random_kspace: Make) -> None:
        assert sort_one(make_readouts(random_kspace(2, 2, 6, 8), contrast=3, repetition=1)).volume is None

    def test_each_contrast_phase_repetition_and_set_is_a_volume(
        self, make_readouts: Make, random_kspace: Make, join: Make
    ) -> None:
        kspace = random_kspace(2, 2, 6, 8)
        counters = [{"contrast": c, "repetition": r, "segment": c} for r in (0, 1, 2) for c in (0, 1)]
        parts = [make_readouts(kspace + n, system=System(te_ms=(10, 30)), **c) for n, c in enumerate(counters)]
        scans = sort(join(*parts))
        assert [scan.volume for scan in scans] == [f"contrast-{c}_repetition-{r}" for c in (1, 2) for r in (1, 2, 3)]
        for scan, n in zip(scans, (0, 2, 4, 1, 3, 5), strict=True):
            assert np.array_equal(read_all(scan), kspace + n)
            assert scan.header.te_ms == (10, 30)[n % 2]
        for name in ("phase", "set"):
            labels = [s.volume for s in sort(join(make_readouts(kspace), make_readouts(kspace, **{name: 4})))]
            assert labels == [f"{name}-1", f"{name}-5"]

    def test_segments_are_one_volume(self, make_readouts: Make, random_kspace: Make, join: Make) -> None:
        kspace = random_kspace(2, 2, 6, 8)
        odd, even = (make_readouts(kspace, rows=range(n, 6, 2), segment=n) for n in (1, 0))
        assert np.array_equal(read_all(sort_one(join(odd, even))), kspace)

    def test_stacks_of_other_directions_are_volumes(self, make_readouts: Make, random_kspace: Make, join: Make) -> None:
        axial, sagittal = random_kspace(3, 2, 6, 8), random_kspace(2, 2, 6, 8, seed=1)
        tilt = np.deg2rad(0.05)
        parts = join(
            make_readouts(
                sagittal, read_dir=(0, 1, 0), phase_dir=(0, 0, 1), slice_dir=(1, 0, 0), slice_counters=[3, 4]
            ),
            make_readouts(axial, planes=[0, 1]),
            make_readouts(axial, planes=[2], read_dir=(np.cos(tilt), np.sin(tilt), 0)),
        )
        scans = sort(parts)
        assert [scan.volume for scan in scans] == ["stack-1", "stack-2"]
        assert np.array_equal(read_all(scans[0]), axial)
        assert np.array_equal(read_all(scans[1]), sagittal)
        assert scans[1].geometry is not None
        assert scans[1].geometry.slice_direction == (1, 0, 0)

    def test_each_slab_is_a_volume(self, make_readouts: Make, random_kspace: Make, join: Make) -> None:
        kspace = random_kspace(4, 2, 6, 8)
        slabs = [make_readouts(kspace + n, partitions=True, slice=n, position=(0, 0, 40 * n)) for n in (0, 1)]
        scans = sort(join(*slabs))
        assert [scan.volume for scan in scans] == ["slab-1", "slab-2"]
        assert all(np.array_equal(read_all(scan), kspace + n) for n, scan in enumerate(scans))

    def test_skipping_averages_makes_each_a_volume(self, make_readouts: Make, random_kspace: Make, join: Make) -> None:
        kspace = random_kspace(1, 2, 6, 8)
        scans = sort(join(*(make_readouts(kspace + n, average=n) for n in (0, 1))), "averages")
        assert [scan.volume for scan in scans] == ["average-1", "average-2"]
        assert all(np.array_equal(read_all(scan), kspace + n) for n, scan in enumerate(scans))
        assert done(scans[0])["averages"] == "skipped as asked"

    def test_a_slice_that_only_another_volume_holds_is_empty(
        self, make_readouts: Make, random_kspace: Make, join: Make
    ) -> None:
        kspace = random_kspace(3, 2, 6, 8)
        scans = sort(join(make_readouts(kspace), make_readouts(kspace, planes=[0, 2], repetition=1)))
        assert scans[1].survey.empty_slices == [1]
        assert scans[1].geometry == scans[0].geometry

    def test_encodings_are_volumes_of_their_own_grid(
        self, make_readouts: Make, random_kspace: Make, join: Make
    ) -> None:
        large, small = random_kspace(1, 2, 6, 8), random_kspace(1, 2, 4, 6)
        other = make_readouts(small)
        both = join(make_readouts(large), in_encoding(other, 1))
        scans = sort(replace(both, encodings=(*both.encodings, *other.encodings)))
        assert [scan.volume for scan in scans] == ["encoding-1", "encoding-2"]
        assert np.array_equal(read_all(scans[0]), large)
        assert np.array_equal(read_all(scans[1]), small)


class TestCalibration:
    ROWS = range(8, 25)

    def test_lines_between_embedded_ones_complete_the_kspace(
        self, make_readouts: Make, random_kspace: Make, join: Make
    ) -> None:
        kspace = random_kspace(2, 2, 32, 8)
        between = [row for row in self.ROWS if row % 2]
        imaging = make_readouts(kspace, rows=range(0, 32, 2), encoding={"calibration": "embedded"})
        scan = sort_one(join(imaging, make_readouts(kspace, rows=between, flags=Flag.CALIBRATION)))
        measured = np.isin(np.arange(32), [*range(0, 32, 2), *between])
        assert np.array_equal(read_all(scan), kspace * measured[:, None])
        assert scan.read_calibration is None
        assert done(scan)["calibration"].startswith("16 calibration lines between the imaging lines")
        assert any("complete the k-space" in note for note in scan.notes)

    @pytest.mark.parametrize("mode", ["embedded", "interleaved", None])
    def test_lines_that_are_imaging_too_calibrate_later_repetitions(
        self, make_readouts: Make, random_kspace: Make, join: Make, mode: str | None
    ) -> None:
        kspace = random_kspace(2, 2, 32, 8)
        between, both = [row for row in self.ROWS if row % 2], [row for row in self.ROWS if not row % 2]
        outer = [row for row in range(0, 32, 2) if row not in both]
        first_both = make_readouts(
            kspace, rows=both, flags=Flag.CALIBRATION_AND_IMAGING, encoding={"calibration": mode}
        )
        parts = [
            first_both,
            make_readouts(kspace, rows=between, flags=Flag.CALIBRATION),
            make_readouts(kspace, rows=outer),
            make_readouts(kspace, rows=outer, repetition=1),
            make_readouts(kspace, rows=both, repetition=1, flags=Flag.CALIBRATION_AND_IMAGING),
        ]
        first, second = sort(join(*parts))
        assert first.read_calibration is None
        assert np.array_equal(read_all(first)[:, :, self.ROWS], kspace[:, :, self.ROWS])
        assert np.array_equal(read_calibration(second)[:, :, self.ROWS], kspace[:, :, self.ROWS])
        assert np.count_nonzero(read_calibration(second)) == kspace[:, :, self.ROWS].size

    @pytest.mark.parametrize("mode", ["separate", "external", None, "other"])
    @pytest.mark.parametrize("partitions", [False, True])
    def test_others_are_kept_apart_for_the_maps(
        self, make_readouts: Make, random_kspace: Make, join: Make, mode: str | None, partitions: bool
    ) -> None:
        kspace, reference = random_kspace(2, 2, 32, 8), random_kspace(2, 2, 32, 8, seed=1)
        imaging = make_readouts(
            kspace, rows=range(0, 32, 2), partitions=partitions, encoding={"calibration": mode}, echo=2
        )
        lines = make_readouts(reference, rows=self.ROWS, flags=Flag.CALIBRATION, partitions=partitions, discard=(1, 0))
        scan = sort_one(join(lines, imaging))
        expected = np.zeros_like(reference)
        expected[:, :, self.ROWS] = reference[:, :, self.ROWS]
        assert np.array_equal(read_calibration(scan), expected)
        kspace[:, :, 1::2], kspace[..., :2] = 0, 0
        assert np.array_equal(read_all(scan), kspace)
        skipped = sort_one(join(lines, imaging), "calibration")
        assert skipped.read_calibration is None
        assert done(skipped)["calibration"] == "skipped as asked"

    def test_a_centre_that_is_there_is_not_replaced_unless_the_header_says_so(
        self, make_readouts: Make, random_kspace: Make, join: Make
    ) -> None:
        kspace = random_kspace(2, 2, 32, 8)
        lines = make_readouts(kspace, rows=self.ROWS, flags=Flag.CALIBRATION)
        scan = sort_one(join(make_readouts(kspace), lines))
        assert scan.read_calibration is None
        assert any("34 calibration lines not used" in note for note in scan.notes)
        separate = make_readouts(kspace, encoding={"calibration": "separate"})
        assert sort_one(join(separate, lines)).read_calibration is not None

    def test_it_is_found_in_its_own_encoding_if_the_field_of_view_agrees(
        self, make_readouts: Make, random_kspace: Make, join: Make
    ) -> None:
        kspace, reference = random_kspace(1, 2, 32, 8), random_kspace(1, 2, 17, 5, seed=1)
        imaging = make_readouts(kspace, rows=range(0, 32, 2))
        for fov, fits in (((200, 160, 5), True), ((300, 160, 5), False)):
            lines = make_readouts(reference, flags=Flag.CALIBRATION, fov_mm=fov, step1_centre=30)
            both = join(imaging, in_encoding(lines, 1))
            scan = sort_one(replace(both, encodings=(*both.encodings, *lines.encodings)))
            if fits:
                found = read_calibration(scan)
                assert np.array_equal(found[:, :, 8:25, 2:7], reference)
                assert np.count_nonzero(found) == reference.size
            else:
                assert scan.read_calibration is None
                assert any("17 calibration readouts" in note for note in scan.notes)

    def test_with_other_coils_it_is_left_out_and_said(
        self, make_readouts: Make, random_kspace: Make, join: Make
    ) -> None:
        imaging = make_readouts(random_kspace(1, 2, 32, 8), rows=range(0, 32, 2))
        lines = make_readouts(random_kspace(1, 3, 32, 8), rows=self.ROWS, flags=Flag.CALIBRATION)
        scan = sort_one(join(imaging, lines))
        assert scan.read_calibration is None
        assert any("17 calibration readouts have other coils, field of view or limits" in note for note in scan.notes)

    def test_outside_the_grid_it_is_left_out_and_said(
        self, make_readouts: Make, random_kspace: Make, join: Make
    ) -> None:
        imaging = make_readouts(random_kspace(1, 2, 32, 8), rows=range(0, 32, 2))
        lines = make_readouts(random_kspace(1, 2, 32, 8), rows=self.ROWS, step1_centre=40, flags=Flag.CALIBRATION)
        scan = sort_one(join(imaging, lines))
        assert scan.read_calibration is None
        assert any("falls on row 32" in note for note in scan.notes)

    def test_that_of_the_first_repetition_serves_all(
        self, make_readouts: Make, random_kspace: Make, join: Make
    ) -> None:
        kspace = random_kspace(2, 2, 32, 8)
        embedded = {"calibration": "embedded"}
        between = [row for row in self.ROWS if row % 2]
        parts = [make_readouts(kspace, rows=range(0, 32, 2), repetition=n, encoding=embedded) for n in (0, 1)]
        first, second = sort(join(*parts, make_readouts(kspace, rows=between, flags=Flag.CALIBRATION)))
        assert first.read_calibration is None
        assert np.array_equal(read_calibration(second)[:, :, between], kspace[:, :, between])
        assert not read_all(second)[:, :, 1::2].any()

    def test_slices_get_their_own(self, make_readouts: Make, random_kspace: Make, join: Make) -> None:
        kspace = random_kspace(3, 2, 32, 8)
        counters = [2, 0, 1]
        imaging = make_readouts(kspace, rows=range(0, 32, 2), slice_counters=counters)
        lines = make_readouts(kspace, rows=self.ROWS, flags=Flag.CALIBRATION, slice_counters=counters)
        calibration = read_calibration(sort_one(join(lines, imaging)))
        assert np.array_equal(calibration[:, :, self.ROWS], kspace[:, :, self.ROWS])


class TestNoise:
    def test_noise_readouts_become_the_noise(self, make_readouts: Make, random_kspace: Make) -> None:
        readouts = make_readouts(random_kspace(1, 3, 6, 8), noise=100, sample_time_us=2.5)
        scan = sort_one(readouts)
        assert scan.noise is not None
        assert np.array_equal(scan.noise.samples, readouts.read([0])[0])
        assert scan.noise.sample_time_us == 2.5
        assert scan.sample_time_us == 2.5
        assert "scan.h5" in scan.noise.source

    def test_that_of_other_coils_is_not_used(self, make_readouts: Make, random_kspace: Make, join: Make) -> None:
        other = make_readouts(random_kspace(1, 4, 6, 8), flags=Flag.NOISE)
        scan = sort_one(join(other, make_readouts(random_kspace(1, 3, 6, 8))))
        assert scan.noise is None
        assert any("noise readouts have another number of coils" in note for note in scan.notes)

    def test_a_file_of_noise_alone_needs_no_flags_when_asked(self, make_readouts: Make, random_kspace: Make) -> None:
        readouts = make_readouts(random_kspace(1, 3, 6, 8), discard=(1, 2))
        assert noise_of(readouts) is None
        noise = noise_of(readouts, all_if_unflagged=True)
        assert noise is not None
        assert noise.samples.shape == (3, 48)
        assert np.array_equal(noise.samples[:, :8], readouts.read([0])[0][:, 1:-2])

    def test_a_long_noise_scan_is_not_read_whole(self, make_readouts: Make, random_kspace: Make) -> None:
        readouts = make_readouts(random_kspace(1, 1, 6, 60_000), flags=Flag.NOISE)
        noise = noise_of(readouts)
        assert noise is not None
        assert noise.samples.shape == (1, 1 << 18)


class TestHeader:
    @pytest.mark.parametrize("width", [12, 13])
    def test_what_is_oversampled_is_told_by_the_fields_of_view(
        self, make_readouts: Make, random_kspace: Make, width: int
    ) -> None:
        scan = sort_one(
            make_readouts(
                random_kspace(1, 2, 9, width),
                encoding={
                    "encoded_fov_mm": (400, 225, 6),
                    "recon_fov_mm": (200, 150, 6),
                    "recon_matrix": (64, 64, 1),
                },
                system=System(vendor="GE", model="X", field_strength_t=3, tr_ms=500, te_ms=(9,), flip_angle_deg=70),
                contrast=1,
            )
        )
        header = scan.header
        assert header.readout_axis == "x"
        assert header.recon_size == (6, 6)
        assert header.readout_kept == 6
        assert header.recon_partitions is None
        assert header.fov_mm == pytest.approx((150, 6 * 400 / width))
        assert header.slice_thickness_mm == 6
        assert (header.vendor, header.model, header.field_strength_t) == ("GE", "X", 3)
        assert (header.tr_ms, header.te_ms, header.flip_angle_deg) == (500, 9, 70)
        assert any("64 × 64 (x × y) voxels; here it has 6 × 6" in note for note in scan.notes)

    def test_an_image_larger_than_what_was_encoded_is_not_cropped(
        self, make_readouts: Make, random_kspace: Make
    ) -> None:
        scan = sort_one(make_readouts(random_kspace(1, 2, 6, 8), encoding={"recon_fov_mm": (200, 320, 5)}))
        assert scan.header.recon_size == (6, 8)
        assert any("larger than the field of view along y" in note for note in scan.notes)

    def test_missing_echo_times_are_unknown(self, make_readouts: Make, random_kspace: Make, join: Make) -> None:
        parts = [make_readouts(random_kspace(1, 2, 6, 8), contrast=n, system=System(te_ms=(1, 2))) for n in range(3)]
        assert [scan.header.te_ms for scan in sort(join(*parts))] == [1, 2, None]

    def test_every_step_is_recorded_as_done_or_skipped(self, make_readouts: Make, random_kspace: Make) -> None:
        readouts = make_readouts(random_kspace(2, 2, 6, 8))
        assert tuple(done(sort_one(readouts))) == DONE_HERE
        assert "skipped" not in " ".join(done(sort_one(readouts)).values())
        skipped = sort_one(readouts, *SKIPPABLE)
        assert tuple(done(skipped)) == DONE_HERE
        assert all(text.startswith("skipped as asked") for text in done(skipped).values())


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_heads_are_an_error_or_sorted(
    make_readouts: Make, random_kspace: Make, join: Make, data: st.DataObject
) -> None:
    kspace = random_kspace(2, 2, 6, 8)
    readouts = join(make_readouts(kspace, noise=20), make_readouts(kspace, flags=Flag.CALIBRATION, rows=[2, 3, 4]))
    heads = readouts.heads.copy()
    integers = st.sampled_from([-(2**40), -1, 0, 1, 3, 200, 65535, 2**40])
    floats = st.sampled_from([np.nan, np.inf, -1.0, 0.0, 1e300])
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(heads.dtype.names))
        rows = data.draw(st.sampled_from([slice(None), slice(3, 4), slice(0, None, 2), slice(-4, None)]))
        if name == "flags":
            heads[name][rows] = data.draw(st.integers(0, 2**64 - 1))
        else:
            kind = heads.dtype[name].base.kind
            heads[name][rows] = data.draw(floats if kind == "f" else integers)
    encoded = tuple(data.draw(st.sampled_from([n, 1, 0, 65535])) for n in (8, 6, 1))
    encoding = replace(readouts.encodings[0], encoded_matrix=data.draw(st.sampled_from([(8, 6, 1), encoded])))
    with suppress(InputError):
        for scan in sort(replace(readouts, heads=heads, encodings=(encoding,))):
            if scan.coils == 2:
                assert read_all(scan).shape == scan.shape


def test_undersampled_lines_are_found(make_readouts: Make, random_kspace: Make) -> None:
    scan = sort_one(make_readouts(random_kspace(2, 2, 32, 8), rows=range(0, 32, 2)))
    assert scan.prospective
    assert scan.survey.sampled[0, :, 0].tolist() == [True, False] * 16


def test_limits_of_partial_fourier_are_the_acquired_range(make_readouts: Make, random_kspace: Make) -> None:
    limits = {"step1": Limits(0, 19, 4)}
    scan = sort_one(make_readouts(random_kspace(2, 2, 32, 8), rows=range(12, 32), step1_centre=4, encoding=limits))
    assert scan.acquired == ((12, 32), (0, 8))
    assert not scan.prospective
