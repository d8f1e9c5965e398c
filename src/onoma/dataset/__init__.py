"""Data in: the data set contract, importers, cleaning, splits."""

from onoma.dataset.dataset import Dataset
from onoma.dataset.ragged import Ragged
from onoma.dataset.split import Cases, Split, split

__all__ = ["Cases", "Dataset", "Ragged", "Split", "split"]
