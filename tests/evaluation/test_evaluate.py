import csv
import math
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from mrirecon.conditioning.opening import open_scan
from mrirecon.errors import UsageError
from mrirecon.evaluation.evaluate import (
    Row,
    Setting,
    central_slices,
    evaluate,
    evaluate_scan,
)
from mrirecon.evaluation.report import describe, write_results
from mrirecon.evaluation.rows import write_csv
from mrirecon.evaluation.summary import summary
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.reconstruction.methods import Method, method_by_name

EQUISPACED = Setting("equispaced", 4, 12)
GAUSSIAN = Setting("gaussian2d", 3, 12)
CPU = torch.device("cpu")


class Recorder(Reconstructor):
    """Zero-filled, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Measurement] = []

    def forward(self, measurement: Measurement) -> list[Tensor]:
        if measurement.kspace.shape[1] > 1:  # not the single coil of the warming up
            self.seen.append(measurement)
        return method_by_name("zero-filled").reconstructor(measurement)


@pytest.fixture
def zero_filled() -> Method:
    return method_by_name("zero-filled")


def test_every_volume_method_and_setting_gets_one_row(write_scan) -> None:
    paths = [write_scan("a.h5"), write_scan("b.h5")]
    methods = [method_by_name("zero-filled"), method_by_name("cg-sense")]
    evaluation = evaluate(paths, methods, [EQUISPACED, GAUSSIAN])
    keys = {(row.volume, row.method, row.mask) for row in evaluation.rows}
    assert len(evaluation.rows) == len(keys) == 2 * 2 * 2
    assert evaluation.volumes == 2
    assert [example.setting for example in evaluation.examples] == [EQUISPACED, GAUSSIAN]


def test_cg_sense_beats_zero_filled_on_every_metric(write_scan) -> None:
    methods = [method_by_name("zero-filled"), method_by_name("cg-sense")]
    poor, good = evaluate([write_scan()], methods, [EQUISPACED]).rows
    assert good.ssim > poor.ssim
    assert good.psnr > poor.psnr + 3
    for name in ("nmse", "hfen", "complex_nmse"):
        assert 0 < getattr(good, name) < getattr(poor, name)


def test_methods_see_the_same_samples_and_maps(write_scan) -> None:
    recorders = [Recorder(), Recorder()]
    methods = [Method(str(number), recorder, {}) for number, recorder in enumerate(recorders)]
    evaluate([write_scan()], methods, [EQUISPACED])
    first, second = (recorder.seen for recorder in recorders)
    assert len(first) == len(second) == 2
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.mask, b.mask)
        assert torch.equal(a.kspace, b.kspace)
        assert torch.equal(a.sensitivities, b.sensitivities)


def test_one_mask_per_volume_from_its_name(write_scan) -> None:
    recorder = Recorder()
    setting = Setting("random", 4, 12)
    evaluate([write_scan("a.h5"), write_scan("b.h5"), write_scan("a.h5")], [Method("m", recorder, {})], [setting])
    masks = [measurement.mask for measurement in recorder.seen]
    assert all(torch.equal(mask, masks[0]) for mask in masks[:2] + masks[4:])
    assert not torch.equal(masks[0], masks[2])


def test_a_perfect_reconstruction_scores_perfectly(write_scan, zero_filled) -> None:
    row = evaluate([write_scan()], [zero_filled], [Setting("equispaced", 1)]).rows[0]
    assert row.acceleration == 1
    assert row.ssim == pytest.approx(1, abs=1e-6)
    assert row.nmse < 1e-10
    assert row.complex_nmse < 1e-10


def test_achieved_acceleration_and_acs_are_reported(write_scan, zero_filled) -> None:
    row = evaluate([write_scan()], [zero_filled], [EQUISPACED]).rows[0]
    # 12 centre lines and every fourth of the other 52: at most 12 + 13 of 64.
    assert row.acceleration_asked == 4
    assert 64 / 25 <= row.acceleration <= 64 / 24
    assert row.acs in (12, 13, 14)


def test_broken_scans_are_recorded_and_the_rest_goes_on(write_scan, zero_filled, tmp_path: Path, caplog) -> None:
    broken, missing = tmp_path / "broken.h5", tmp_path / "missing.h5"
    broken.write_bytes(write_scan("whole.h5").read_bytes()[:5000])
    evaluation = evaluate([broken, missing, write_scan("good.h5")], [zero_filled], [EQUISPACED])
    assert set(evaluation.failures) == {broken, missing}
    assert [row.volume for row in evaluation.rows] == ["good.h5"]
    assert len(evaluation.examples) == 1
    assert "broken.h5" in caplog.text


def test_a_method_that_fails_on_one_scan_does_not_stop_the_evaluation(write_scan) -> None:
    class Fragile(Recorder):
        def forward(self, measurement: Measurement) -> list[Tensor]:
            if not self.seen and measurement.kspace.shape[1] > 1:
                self.seen.append(measurement)
                raise RuntimeError("too small for four poolings")
            return super().forward(measurement)

    paths = [write_scan("a.h5"), write_scan("b.h5")]
    evaluation = evaluate(paths, [Method("fragile", Fragile(), {})], [EQUISPACED])
    assert evaluation.failures == {paths[0]: "too small for four poolings"}
    assert [row.volume for row in evaluation.rows] == ["b.h5"]


def test_an_unknown_mask_stops_before_any_work(write_scan, zero_filled) -> None:
    with pytest.raises(UsageError, match="spiral"):
        evaluate([write_scan()], [zero_filled], [Setting("spiral", 4)])


@pytest.mark.parametrize(("simulated", "said"), [(True, "yes"), (False, "no"), (None, "unknown")])
def test_origin_is_what_the_file_says(write_scan, zero_filled, simulated: bool | None, said: str) -> None:
    assert evaluate([write_scan(simulated=simulated)], [zero_filled], [EQUISPACED]).rows[0].simulated == said


def test_metrics_against_the_stored_reference_where_there_is_one(write_scan, zero_filled) -> None:
    full = Setting("equispaced", 1)
    with_rss = evaluate([write_scan(rss=True, noise=1e-4)], [zero_filled], [full]).rows[0]
    assert with_rss.ssim_rss is not None
    assert with_rss.ssim_rss > 0.98
    assert with_rss.nmse_rss is not None
    assert 0 < with_rss.nmse_rss < 1e-2
    without = evaluate([write_scan(rss=False)], [zero_filled], [full]).rows[0]
    assert without.ssim_rss is without.psnr_rss is without.nmse_rss is None


def test_only_the_header_s_field_of_view_is_scored(write_scan, zero_filled) -> None:
    scan = open_scan(write_scan())
    cropped = replace(scan, header=replace(scan.header, recon_size=(48, 40)))
    example = evaluate_scan(cropped, EQUISPACED, [zero_filled], seed=None, device=CPU)
    assert example.reference.shape == example.images["zero-filled"].shape == (48, 40)


def test_central_slices_are_those_of_the_scan(write_scan) -> None:
    scan = open_scan(write_scan())
    stack = replace(scan, shape=(5, *scan.shape[1:]), read_slice=lambda index: np.full(scan.shape[1:], index + 0j))
    assert [kspace[0, 0, 0].real for kspace in central_slices(stack, 3)] == [1, 2, 3]
    assert central_slices(stack, 7) is stack


def row(**changes) -> Row:
    values = {
        "volume": "a.h5", "method": "cs", "mask": "equispaced", "acceleration_asked": 4.0, "acceleration": 3.4,
        "acs": 24, "seed": None, "slices": 2, "nmse": 0.01, "psnr": 35.0, "ssim": 0.9, "hfen": 0.2,
        "complex_nmse": 0.02, "nmse_rss": None, "psnr_rss": None, "ssim_rss": None, "seconds": 2.0,
        "seconds_per_slice_median": 1.0, "device": "CPU", "simulated": "yes",
    }  # fmt: skip
    return Row(**(values | changes))


def test_the_csv_is_tidy(tmp_path: Path) -> None:
    write_csv(tmp_path / "results.csv", [row(), row(volume="b, or not.h5", ssim_rss=0.8)])
    with (tmp_path / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == [column.name for column in fields(Row)]
    assert first["ssim_rss"] == first["seed"] == ""
    assert second["volume"] == "b, or not.h5"
    assert float(second["ssim_rss"]) == 0.8
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_the_summary_gives_median_range_and_n() -> None:
    rows = [row(ssim=0.8), row(ssim=0.9, volume="b"), row(ssim=0.95, volume="c"), row(method="cirim", ssim=0.97)]
    table = summary(rows)
    by_method = {
        line[table.columns.index("method")]: dict(zip(table.columns, line, strict=True)) for line in table.rows
    }
    assert by_method["cs"]["SSIM ↑"] == "0.900 (0.800–0.950)"
    assert by_method["cs"]["n"] == "3"
    assert by_method["cirim"]["SSIM ↑"] == "0.970"
    assert table.markdown().count("\n") == 2 + 2


def test_an_infinite_score_is_shown_not_hidden() -> None:
    assert "inf" in summary([row(psnr=math.inf)]).markdown()


def test_lesions_of_the_file_and_what_needs_no_reference_are_in_the_row(write_scan, zero_filled) -> None:
    path = write_scan()
    assert evaluate([path], [zero_filled], [EQUISPACED]).rows[0].lesions is None
    mask = np.zeros((2, 64, 64), dtype=bool)
    mask[:, 30:34, 30:34] = True
    with h5py.File(path, "a") as file:
        file["lesion_mask"] = mask
    settings = [Setting("equispaced", 1), EQUISPACED]
    full, poor = evaluate([path], [zero_filled], settings).rows
    assert full.lesions == poor.lesions == 2
    assert full.lesion_contrast_error == pytest.approx(0, abs=1e-5)
    assert poor.lesion_contrast_error > 0.01
    assert full.lesion_cnr == pytest.approx(full.lesion_cnr_reference, abs=1e-4)
    assert full.residual < poor.residual < 1
    assert full.unevenness > 0


def test_an_undersampled_scan_is_measured_by_what_needs_no_reference(write_scan, tmp_path: Path) -> None:
    path = write_scan()
    with h5py.File(path, "a") as file:
        lines = EQUISPACED.sampling_mask().mask((64, 64), 0, "y").numpy()
        file["kspace"][...] = file["kspace"][()] * lines
    methods = [method_by_name("zero-filled"), method_by_name("cs")]
    evaluation = evaluate([path], methods, [EQUISPACED, GAUSSIAN])
    assert evaluation.failures == {}
    assert [row.method for row in evaluation.rows] == ["zero-filled", "cs"]
    assert {row.mask for row in evaluation.rows} == {"as acquired"}
    zero_filled, cs = evaluation.rows
    assert zero_filled.ssim is zero_filled.nmse is zero_filled.complex_nmse is zero_filled.psnr_foreground is None
    columns = np.flatnonzero(lines.any(axis=0))
    assert zero_filled.acceleration == pytest.approx((columns[-1] + 1 - columns[0]) / len(columns), abs=0.005)
    assert 0 < cs.residual < zero_filled.residual
    assert cs.unevenness > 0
    table = summary(evaluation.rows)
    assert "residual" in table.columns
    assert "SSIM ↑" not in table.columns
    page = write_results(tmp_path / "out", evaluation, methods, title="t", lead=describe(evaluation), command="c")[-1]
    html = page.read_text(encoding="utf-8")
    assert "there is no reference" in html
    assert "undersampled when it was acquired" in html
    assert "error ×" not in html
    assert all(written.exists() for written in (tmp_path / "out" / "figures").iterdir())
