"""The user's own images and labels.  In reading order:

- `preprocessing.py`  from a picture to the network's input
- `dataset.py`        what every kind of data offers
- `arrays.py`         a .npz file, or arrays in memory
- `folder.py`         a folder of pictures
- `video.py`          the frames of a video
- `user_dataset.py`   what the user's own code returns
- `source.py`         which of them an option or an argument names
"""

from bnncc.data.arrays import ArrayDataset
from bnncc.data.dataset import BadImageError, Dataset, Sample, stack
from bnncc.data.preprocessing import Preprocessing
from bnncc.data.source import DataSource

__all__ = ["ArrayDataset", "BadImageError", "DataSource", "Dataset", "Preprocessing", "Sample", "stack"]
