"""Pillow. `formats` knows files, `policy` what a picture looks like, `fitting` and `drafting` sizes; `decoder` joins them."""

from serve_app.adapters.picture_decoder.decoder import PictureDecoder

__all__ = ["PictureDecoder"]
