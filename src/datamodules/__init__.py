"""What is learned from."""

from src.datamodules.atari import AtariDataModule
from src.datamodules.base import ArrayDataModule
from src.datamodules.cyclic_sprites import CyclicSpritesDataModule
from src.datamodules.digits import DigitsDataModule
from src.datamodules.hand_poses import HandPosesDataModule
from src.datamodules.images import ImagesDataModule
from src.datamodules.recordings import RecordingsDataModule

__all__ = [
    "ArrayDataModule",
    "AtariDataModule",
    "CyclicSpritesDataModule",
    "DigitsDataModule",
    "HandPosesDataModule",
    "ImagesDataModule",
    "RecordingsDataModule",
]
