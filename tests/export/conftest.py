from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mrirecon.acquisition.geometry import Geometry
from mrirecon.acquisition.scan import Header, Scan
from mrirecon.export.images import Origin


@dataclass(frozen=True)
class ArrayImages:
    """Images in memory, (slices, y, x)."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.array.shape

    @property
    def complex(self) -> bool:
        return np.iscomplexobj(self.array)

    @property
    def maximum(self) -> float:
        return float(np.abs(self.array).max())

    def slice(self, index: int) -> np.ndarray:
        return self.array[index]


@pytest.fixture(scope="session")
def array_images() -> Callable[[np.ndarray], ArrayImages]:
    return ArrayImages


@pytest.fixture
def images() -> ArrayImages:
    """Complex, 3 × 12 × 10."""
    generator = np.random.default_rng(0)
    array = generator.standard_normal((3, 12, 10)) + 1j * generator.standard_normal((3, 12, 10))
    return ArrayImages((1e-5 * array).astype(np.complex64))


@pytest.fixture(scope="session")
def make_geometry() -> Callable[..., Geometry]:
    def make(
        slices: int = 3,
        directions: np.ndarray | None = None,
        pixel_mm: tuple[float, float] = (2.0, 1.5),
        spacing_mm: float | Sequence[float] = 4.0,
        centre_mm: tuple[float, float, float] = (10.0, -20.0, 30.0),
        **facts,
    ) -> Geometry:
        """Rows of `directions` are x, y and slice direction; spacing_mm: between slices, or distances of each slice."""
        x, y, z = np.eye(3) if directions is None else directions
        along = np.arange(slices) * spacing_mm if np.isscalar(spacing_mm) else np.asarray(spacing_mm)
        centres = np.asarray(centre_mm) + along[:, None] * z
        return Geometry(
            centres_mm=tuple(map(tuple, centres.tolist())),
            x_direction=tuple(x.tolist()),
            y_direction=tuple(y.tolist()),
            slice_direction=tuple(z.tolist()),
            pixel_mm=pixel_mm,
            thickness_mm=3.0,
            **{"convention": "Directions as the file states them", "proven": True} | facts,
        )

    return make


@pytest.fixture(scope="session")
def raw_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for the file that a scan is from; its content alone matters, for hashes."""
    path = tmp_path_factory.mktemp("raw") / "raw.h5"
    path.write_bytes(b"raw data")
    return path


@pytest.fixture(scope="session")
def make_origin(raw_file: Path) -> Callable[..., Origin]:
    def make(geometry: Geometry | None, *, method: str = "cirim", header: Header | None = None, **facts) -> Origin:
        """facts: of the Scan."""
        scan = Scan(
            raw_file, "test", (3, 2, 12, 10), read_slice=unread, header=header or HEADER, geometry=geometry, **facts
        )
        return Origin(scan, method, 4.0, settings={"seed": 1})

    return make


HEADER = Header(
    readout_axis="x",
    acquired=((3, 12), (0, 10)),
    tr_ms=500.0,
    te_ms=4.1,
    flip_angle_deg=15.0,
    field_strength_t=2.89,
    frequency_hz=123.2e6,
    vendor="SIEMENS",
    model="Skyra",
)


def unread(index: int) -> np.ndarray:
    raise AssertionError("exports do not read k-space")
