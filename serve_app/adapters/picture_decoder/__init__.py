"""Pillow: `formats` knows files, `policy` what a picture looks like in RGB, `fitting` the encoder's size, `decoder` all."""

from serve_app.adapters.picture_decoder.decoder import PictureDecoder

__all__ = ["PictureDecoder"]
