"""What is learned from."""

from src.datamodules.base import ArrayDataModule
from src.datamodules.cyclic_sprites import CyclicSpritesDataModule
from src.datamodules.digits import DigitsDataModule
from src.datamodules.images import ImagesDataModule

__all__ = ["ArrayDataModule", "CyclicSpritesDataModule", "DigitsDataModule", "ImagesDataModule"]
