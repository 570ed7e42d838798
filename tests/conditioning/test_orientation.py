"""Positions and directions of readouts become the geometry of the images."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from mrirecon.acquisition.readouts import Readouts, System
from mrirecon.acquisition.scan import Scan
from mrirecon.conditioning.options import Conditioning
from mrirecon.conditioning.sorting import sort_readouts
from mrirecon.errors import InputError

Make = Callable[..., Any]

#: The 24 right-handed assignments of read, phase and slice direction to patient axes.
FRAMES = [
    frame
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
    if np.linalg.det(frame := np.eye(3)[list(order)] * np.array(signs)[:, None]) > 0
]
OBLIQUE = np.linalg.qr(np.array([[0.8, 0.3, -0.2], [-0.1, 0.9, 0.4], [0.3, -0.2, 0.7]]))[0]
SIEMENS = System(vendor="SIEMENS Healthineers")


def sort_one(readouts: Readouts, **options: Any) -> Scan:
    (scan,) = sort_readouts(readouts, Conditioning(**options))
    return scan


@pytest.mark.parametrize("partitions", [False, True], ids=["slices", "partitions"])
@pytest.mark.parametrize("system", [System(), SIEMENS], ids=["mrd", "siemens"])
@pytest.mark.parametrize("frame", [*FRAMES, OBLIQUE], ids=lambda f: "".join(map("{:.1g},".format, f.ravel())))
def test_geometry_follows_the_directions(
    make_readouts: Make, random_kspace: Make, frame: np.ndarray, system: System, partitions: bool
) -> None:
    at = np.array([12.0, -7.0, 30.0])
    read, phase, normal = frame
    scan = sort_one(
        make_readouts(
            random_kspace(5, 1, 4, 6),
            partitions=partitions,
            position=at,
            read_dir=read,
            phase_dir=phase,
            slice_dir=normal,
            fov_mm=(60, 60, 20 if partitions else 5),
            system=system,
        )
    )
    geometry = scan.geometry
    assert geometry is not None
    directions = np.array([geometry.x_direction, geometry.y_direction, geometry.slice_direction])
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-12)
    siemens = system is SIEMENS
    expected = frame * np.array([-1, -1, -1 if partitions else 1] if siemens else [1, 1, 1])[:, None]
    np.testing.assert_allclose(directions, expected, atol=1e-12)
    first = at - 2 * 4 * expected[2] if partitions else at
    spacing = 4.0 if partitions else 5.0
    np.testing.assert_allclose(geometry.centres_mm, first + np.arange(5)[:, None] * spacing * expected[2], atol=1e-9)
    assert geometry.spacing_mm == pytest.approx(spacing)
    assert geometry.pixel_mm == (15, 10)
    assert geometry.thickness_mm == pytest.approx(4 if partitions else 5)
    assert geometry.proven is not siemens
    assert geometry.convention.startswith("Siemens" if siemens else "MRD")


@pytest.mark.parametrize(
    ("vendor", "directions", "negated"),
    [("GE", "auto", False), ("GE", "siemens", True), ("siemens", "mrd", False), (None, "auto", False)],
)
def test_the_convention_can_be_chosen_and_siemens_is_never_proven(
    make_readouts: Make, random_kspace: Make, vendor: str | None, directions: str, negated: bool
) -> None:
    readouts = make_readouts(random_kspace(1, 1, 4, 4), system=System(vendor=vendor, patient_position="FFS"))
    geometry = sort_one(readouts, directions=directions).geometry
    assert geometry is not None
    assert geometry.x_direction == ((-1, 0, 0) if negated else (1, 0, 0))
    assert geometry.proven is (vendor != "siemens" and not negated)
    assert geometry.patient_position == "FFS"


@pytest.mark.parametrize("counters", [[0, 3, 1, 4, 2], [4, 3, 2, 1, 0], [7, 2, 9, 3, 11]])
def test_slices_lie_in_the_order_of_their_positions(
    make_readouts: Make, random_kspace: Make, counters: list[int]
) -> None:
    kspace = random_kspace(5, 2, 4, 6)
    readouts = make_readouts(kspace, slice_counters=counters, slice_dir=(0, 0, -1), phase_dir=(0, -1, 0))
    scan = sort_one(readouts)
    assert all(np.array_equal(scan.kspace(index), kspace[index]) for index in range(5))
    assert scan.geometry is not None
    assert scan.geometry.spacing_mm == 5
    by_counter = sort_one(readouts, skip=("slice-order",))
    order = np.argsort(counters)
    assert all(np.array_equal(by_counter.kspace(index), kspace[order[index]]) for index in range(5))
    assert by_counter.geometry is not None
    assert by_counter.geometry.centres_mm == tuple(scan.geometry.centres_mm[i] for i in order)
    assert by_counter.steps[-1].done == "skipped as asked"


@pytest.mark.parametrize(("delivered_mm", "steps"), [(25, (-2, -1, 0, 1, 2)), (29.9, (-3, -2, -1, 0, 1, 2))])
def test_a_slab_is_delivered_about_its_centre(
    make_readouts: Make, random_kspace: Make, delivered_mm: float, steps: tuple[int, ...]
) -> None:
    scan = sort_one(
        make_readouts(
            random_kspace(8, 1, 4, 6),
            partitions=True,
            position=(1, 2, 3),
            encoding={"encoded_fov_mm": (200, 160, 40), "recon_fov_mm": (200, 160, delivered_mm)},
        )
    )
    assert scan.header.recon_partitions == len(steps)
    assert scan.geometry is not None
    assert scan.geometry.centres_mm == tuple((1.0, 2.0, 3.0 + 5 * step) for step in steps)
    assert scan.geometry.thickness_mm == 5


@pytest.mark.parametrize(
    "directions",
    [
        {"read_dir": (0, 0, 0)},
        {"read_dir": (0, 1, 0)},
        {"phase_dir": (0, 2, 0)},
        {"slice_dir": (0, 0.01, 1)},
        {"slice_dir": (np.nan, 0, 1)},
        {"position": (0, np.inf, 0)},
        {"position": (0, np.nan, 0)},
        {"position": (0, 1e30, 0)},
    ],
)
def test_vectors_that_are_no_directions_leave_the_geometry_unknown(
    make_readouts: Make, random_kspace: Make, directions: dict[str, Any]
) -> None:
    kspace = random_kspace(1, 2, 4, 6)
    scan = sort_one(make_readouts(kspace, **directions))
    assert scan.geometry is None
    assert any("position and orientation of the images are unknown" in note for note in scan.notes)
    assert np.array_equal(scan.kspace(0), kspace[0])


def test_nearly_orthonormal_directions_are_made_so(make_readouts: Make, random_kspace: Make) -> None:
    scan = sort_one(make_readouts(random_kspace(1, 2, 4, 6), read_dir=(1.0005, 0.0004, 0), slice_dir=(0, 3e-4, 0.9997)))
    assert scan.geometry is not None
    rows = np.array([scan.geometry.x_direction, scan.geometry.y_direction, scan.geometry.slice_direction])
    np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=1e-12)


def test_slices_at_one_position_keep_their_order_and_are_unknown(make_readouts: Make, random_kspace: Make) -> None:
    kspace = random_kspace(3, 2, 4, 6)
    scan = sort_one(make_readouts(kspace, spacing_mm=0))
    assert scan.geometry is None
    assert any("different slices are said to lie at one position" in note for note in scan.notes)
    assert all(np.array_equal(scan.kspace(index), kspace[index]) for index in range(3))


def test_volumes_may_lie_at_different_positions(make_readouts: Make, random_kspace: Make, join: Make) -> None:
    kspace = random_kspace(2, 2, 4, 6)
    parts = [make_readouts(kspace, repetition=n, position=(0, n, 0)) for n in (0, 1)]
    centres = [scan.geometry.centres_mm for scan in sort_readouts(join(*parts), Conditioning()) if scan.geometry]
    assert centres == [((0, 0, 0), (0, 0, 5)), ((0, 1, 0), (0, 1, 5))]


def test_a_slice_at_two_positions_is_refused(make_readouts: Make, random_kspace: Make) -> None:
    readouts = make_readouts(random_kspace(2, 2, 4, 6))
    heads = readouts.heads.copy()
    heads["position"][6] += (0, 0, 1)
    with pytest.raises(InputError, match="slice 1 lie at different positions"):
        sort_one(replace(readouts, heads=heads))


def test_without_field_of_view_the_geometry_is_unknown(make_readouts: Make, random_kspace: Make) -> None:
    readouts = make_readouts(
        random_kspace(2, 2, 4, 6), encoding={"encoded_fov_mm": None, "recon_fov_mm": None}, oversampling=2
    )
    scan = sort_one(readouts)
    assert scan.geometry is None
    assert scan.header.fov_mm is None
    assert scan.header.recon_size == (4, 6)
    assert any("no encoded field of view along x" in note for note in scan.notes)
    assert any("orientation of the images are unknown" in note for note in scan.notes)


def test_unknown_thickness_is_taken_from_the_distance_of_slices(make_readouts: Make, random_kspace: Make) -> None:
    flat = {"encoded_fov_mm": (200.0, 160.0, 0.0), "recon_fov_mm": (200.0, 160.0, 0.0)}
    scan = sort_one(make_readouts(random_kspace(3, 2, 4, 6), encoding=flat, spacing_mm=7))
    assert scan.geometry is not None
    assert scan.geometry.thickness_mm == 7
    assert scan.header.slice_thickness_mm is None
    assert sort_one(make_readouts(random_kspace(1, 2, 4, 6), encoding=flat)).geometry is None


def test_directions_that_are_no_stacks_are_refused(make_readouts: Make, random_kspace: Make) -> None:
    readouts = make_readouts(random_kspace(4, 1, 100, 2))
    heads = readouts.heads.copy()
    angles = np.linspace(0, 6, len(heads))
    heads["read_dir"] = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    with pytest.raises(InputError, match="no stacks of slices"):
        sort_one(replace(readouts, heads=heads))


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_fields_of_view_of_no_possible_size_are_unknown(make_readouts: Make, random_kspace: Make, size: float) -> None:
    impossible = {"encoded_fov_mm": (size,) * 3, "recon_fov_mm": (size,) * 3}
    scan = sort_one(make_readouts(random_kspace(1, 2, 4, 6), encoding=impossible))
    assert (scan.geometry, scan.header.fov_mm, scan.header.recon_size) == (None, None, (4, 6))
