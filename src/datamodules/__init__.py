"""What is learned from."""

from src.datamodules.base import ArrayDataModule
from src.datamodules.digits import DigitsDataModule
from src.datamodules.images import ImagesDataModule

__all__ = ["ArrayDataModule", "DigitsDataModule", "ImagesDataModule"]
