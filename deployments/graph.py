"""The wiring: `serve run serve_config.yaml` calls build(args). Replica counts and resources stand in serve_config.yaml.

This file has no `from __future__ import annotations`: with it Serve would pass a plain dict for `args`.
"""

from ray import serve
from ray.serve import Application

from configs.load import load_config
from configs.schema import GraphArgs
from deployments.encoders import encoders_of
from deployments.gateway import Gateway
from deployments.image_encoder import ImageEncoder
from deployments.indexer import Indexer
from deployments.preprocessor import Preprocessor
from deployments.retriever import Retriever
from deployments.text_encoder import TextEncoder


def build(args: GraphArgs) -> Application:
    """The graph of a profile:

    client ──► Gateway ──► TextEncoder
                  ├──────► Preprocessor ──► ImageEncoder
                  ├──────► Retriever ──► the table (read)
                  └──────► Indexer ────► the table (write)
    """
    config = load_config(args.profile, args.overrides)

    deployment = serve.deployment()

    text_encoder = deployment(TextEncoder).bind(config.encoder, config.text)
    image_encoder = deployment(ImageEncoder).bind(config.encoder)
    preprocessor = deployment(Preprocessor).bind(
        config.pictures, config.videos, config.storage, config.calls, image_encoder
    )
    retriever = deployment(Retriever).bind(config.table, config.search)
    indexer = deployment(Indexer).bind(config.table, config.search, config.full_text, config.storage)
    return deployment(serve.ingress()(Gateway)).bind(config, text_encoder, preprocessor, retriever, indexer)


def build_encoders(args: GraphArgs) -> Application:
    """Encoders of another model beside a graph, which uses them once a table of theirs is in service:

    TextEncoder    Preprocessor ──► ImageEncoder

    Its name in the Serve file begins with `encoders`, and its route_prefix is null. The profile is the graph's own, and only
    its encoder differs.
    """
    return encoders_of(load_config(args.profile, args.overrides), {})
