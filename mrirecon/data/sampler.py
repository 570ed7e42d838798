"""The order of training examples, as a function of seed and epoch alone."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Yields `epoch · length + i` for a permutation of i that depends on (seed, epoch) only.

    A data set that draws its randomness from that number gives the same examples to an interrupted and resumed run, to
    any number of loader processes, and to several devices as to one: rank r of `world` takes every world-th index.
    """

    def __init__(self, length: int, seed: int, rank: int = 0, world: int = 1):
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator).tolist()
        whole = len(self) * self.world
        return iter([self.epoch * self.length + i for i in order[self.rank : whole : self.world]])
