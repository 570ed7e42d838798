"""Lightning data modules: simulated scans, or files of fully sampled k-space."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset, Sampler

from mrirecon.conditioning.options import Conditioning
from mrirecon.data.batch import Example, Slice, collate, make_example
from mrirecon.data.images import image_sources
from mrirecon.data.index import Volume, index_volumes
from mrirecon.data.manifest import scan_files
from mrirecon.data.sampler import EpochSampler
from mrirecon.data.scans import ScanSlices
from mrirecon.data.simulated import Scanner, SimulatedSlices
from mrirecon.data.undersampling import Undersampling


class ReconstructionData(pl.LightningDataModule):
    """What both data modules do alike: loaders whose order depends on the seed and the epoch alone, maps on the device.

    batch_size: slices per device and step. num_workers: loader processes. seed: of everything random in the data.
    """

    training: Dataset[Slice]
    validation: Dataset[Slice]

    def __init__(self, batch_size: int = 1, num_workers: int = 0, seed: int = 0):
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Slice]:
        """The training slices, shuffled by epoch; devices share them out."""
        rank, world = self._place()
        return self._loader(self.training, self.batch_size, EpochSampler(len(self.training), self.seed, rank, world))  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Slice]:
        """The validation slices one by one; a volume stays on one device."""
        return self._loader(self.validation, 1, VolumeSampler(self._validation_volumes(), *self._place()))

    def largest_slice(self) -> tuple[int, int, int]:
        """(coils, y, x) of the training slice with the most numbers, as far as is known; by default, of the first."""
        coils, height, width = self.training[0].kspace.shape
        return coils, height, width

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> Example:
        """Undersampling, maps and target, on the device."""
        return make_example(batch)

    def _validation_volumes(self) -> list[int]:
        raise NotImplementedError

    def _place(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)

    def _loader(self, dataset: Dataset[Slice], batch_size: int, sampler: Sampler[int]) -> DataLoader[Slice]:
        trainer = self.trainer
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )


class VolumeSampler(Sampler[int]):
    """Indices of the slices of every world-th volume; of all volumes where there are fewer than devices."""

    def __init__(self, volumes: list[int], rank: int, world: int):
        shared = len(set(volumes)) >= world
        self.indices = [i for i, volume in enumerate(volumes) if not shared or volume % world == rank]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


class SimulatedData(ReconstructionData):
    """Scans simulated on the fly, new ones in every epoch.

    images, labels: NIfTI magnitude volumes and label maps to simulate from, or folders of them; none = the built-in
    head phantom. val_images, val_labels: other ones for validation; none = other phantom heads. scanner: ranges to draw
    from. val_matrix: (readout, phase encodes) of validation slices. examples, val_examples: slices per epoch.
    """

    def __init__(
        self,
        images: list[Path] = [],  # noqa: B006 (jsonargparse shows defaults; never changed)
        labels: list[Path] = [],  # noqa: B006
        val_images: list[Path] = [],  # noqa: B006
        val_labels: list[Path] = [],  # noqa: B006
        scanner: Scanner = Scanner(),  # noqa: B008
        val_matrix: tuple[int, int] = (192, 192),
        examples: int = 400,
        val_examples: int = 16,
        batch_size: int = 1,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__(batch_size, num_workers, seed)
        self.files = (images, labels), (val_images, val_labels)
        self.scanners = scanner, replace(scanner, matrix=val_matrix)
        self.lengths = examples, val_examples

    def setup(self, stage: str) -> None:
        """Read the images."""
        self.training, self.validation = (
            SimulatedSlices(image_sources(*files, self.seed + i), scanner, length, self.seed + i)
            for i, (files, scanner, length) in enumerate(zip(self.files, self.scanners, self.lengths, strict=True))
        )

    def largest_slice(self) -> tuple[int, int, int]:
        """Of the scanner's largest array of coils."""
        scanner, _ = self.scanners
        return scanner.coils[1], *scanner.matrix

    def _validation_volumes(self) -> list[int]:
        return list(range(len(self.validation)))  # type: ignore[arg-type]


class ScanData(ReconstructionData):
    """Files of fully sampled k-space, of any readable format that needs no axes given.

    train, val: scan files, folders of them, or manifests, whose rows of the split train or val count. undersampling:
    masks to draw from. matrix: crop training slices to this (y, x) part of the image, at random, before undersampling;
    None = whole slices. conditioning: what is done to scans before.
    """

    def __init__(
        self,
        train: list[Path],
        val: list[Path],
        undersampling: Undersampling = Undersampling(),  # noqa: B008
        matrix: tuple[int, int] | None = None,
        conditioning: Conditioning = Conditioning(),  # noqa: B008
        batch_size: int = 1,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__(batch_size, num_workers, seed)
        self.paths = train, val
        self.undersampling = undersampling
        self.matrix = matrix
        self.conditioning = conditioning

    def prepare_data(self) -> None:
        """Survey the scans that the cache does not know; on one process of each machine."""
        self._volumes  # noqa: B018 (kept)

    def setup(self, stage: str) -> None:
        """Open the scans."""
        train, val = self._volumes
        masks, conditioning = self.undersampling, self.conditioning
        self.training = ScanSlices(train, masks, self.matrix, self.seed, conditioning=conditioning)
        self.validation = ScanSlices(val, masks, None, self.seed, conditioning=conditioning, one_mask_per_volume=True)

    def largest_slice(self) -> tuple[int, int, int]:
        """Of all scans, from the index."""
        shapes = [(volume.shape[1], *(self.matrix or volume.shape[2:])) for volume in self._volumes[0]]
        return max(shapes, key=math.prod)

    @cached_property
    def _volumes(self) -> tuple[list[Volume], list[Volume]]:
        train, val = self.paths
        files = scan_files(train, "train"), scan_files(val, "val")
        first, second = (index_volumes(paths, self.conditioning, self.num_workers) for paths in files)
        return first, second

    def _validation_volumes(self) -> list[int]:
        assert isinstance(self.validation, ScanSlices)
        return [volume for volume, _ in self.validation.index]
