"""OpenCLIP, the only place of the service that imports torch.

`finding` has a model's files, `building` its modules filled with one tower, `loading` both and a card, `towers` runs them,
`trimming`, `sequence_packing`, `weight_packing`, `activations`, `cpu_layers`, `branches`, `attention`, `last_block` and
`fastest` make them fast.
"""

from serve_app.adapters.open_clip.building import trim_heap
from serve_app.adapters.open_clip.finding import preprocessing_of_file
from serve_app.adapters.open_clip.loading import load_image_tower, load_text_tower
from serve_app.adapters.open_clip.towers import OpenClipImageTower, OpenClipTextTower

__all__ = [
    "OpenClipImageTower",
    "OpenClipTextTower",
    "load_image_tower",
    "load_text_tower",
    "preprocessing_of_file",
    "trim_heap",
]
