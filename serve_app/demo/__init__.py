"""The picture-book: scenes drawn by code, their captions, and the small OpenCLIP model trained on them."""
