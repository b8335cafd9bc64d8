"""A graph of the product's shape whose parts do nothing: what Serve itself costs, hop by hop.

ingress -> encoder -> retriever, with the same ASGI ingress, the same coalescer and payloads of the same size as the product's: a
text there, a vector back; a vector there, ten ids back. The paths have the hops of the product's: none, one, the other, both.
With `computes_ms` the encoder reads as much memory as a tower's weights are, again and again for so long: hops are dearer after a
pause.
"""

import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from configs.load import load_config
from deployments.remote import Target
from deployments.replica import collect_garbage_seldom
from serve_app.types import FloatVector

DIMENSION = 512
RESULTS = [f"document-{number}" for number in range(10)]
UNDER_WAY = 256
# Of the text tower of ViT-B/32 in bfloat16, in parts of 1 MiB.
WEIGHTS = (75, 2**18)


class NoopArgs(BaseModel):
    """`args` of the application. Coalescing is set as the product's is, by the environment (`calls`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    computes_ms: float = 0.0


class NoopEncoder:
    def __init__(self, computes_ms: float) -> None:
        self._vector: FloatVector = np.full(DIMENSION, DIMENSION**-0.5, dtype=np.float32)
        self._computes_s = computes_ms / 1e3
        self._weights = itertools.cycle(np.ones(WEIGHTS, dtype=np.float32))

    async def encode_texts(self, texts: Sequence[str]) -> list[FloatVector]:
        ends_at = time.perf_counter() + self._computes_s
        while time.perf_counter() < ends_at:
            next(self._weights).sum()
        return [self._vector for _ in texts]

    async def describe(self) -> str:
        return "noop"


class NoopRetriever:
    async def search(self, vectors: Sequence[FloatVector]) -> list[list[str]]:
        return [RESULTS for _ in vectors]

    async def table_info(self) -> str:
        return "noop"


class NoopGateway:
    def __init__(self, encoder: DeploymentHandle[Any], retriever: DeploymentHandle[Any]) -> None:
        collect_garbage_seldom()
        config = load_config()
        calls = config.calls
        self._encoder, self._retriever = Target(encoder, calls, "describe"), Target(retriever, calls, "table_info")
        self._texts = self._encoder.coalesced_in_turn("encode_texts", config.encoder.max_batch_texts)
        self._queries = self._retriever.coalesced("search")

    def __serve_build_asgi_app__(self) -> Starlette:
        """Serve's hook, as the product's Gateway uses it."""
        return Starlette(
            routes=[
                Route("/healthz", self._nothing),
                Route("/readyz", self._nothing),
                Route("/v1/models", self._one_hop),
                Route("/v1/table", self._other_hop),
                Route("/v1/search", self._both_hops, methods=["POST"]),
            ]
        )

    async def _nothing(self, request: Request) -> JSONResponse:  # noqa: ARG002 - the same whatever is asked
        return JSONResponse({"status": "ok"})

    async def _one_hop(self, request: Request) -> JSONResponse:  # noqa: ARG002
        return JSONResponse({"encoder": await self._encoder.call("describe")})

    async def _other_hop(self, request: Request) -> JSONResponse:  # noqa: ARG002
        return JSONResponse({"table": await self._retriever.call("table_info")})

    async def _both_hops(self, request: Request) -> JSONResponse:
        text = (await request.json())["query"]["text"]
        vector = await self._texts.submit(text)
        return JSONResponse({"results": await self._queries.submit(vector)})


def build(args: NoopArgs) -> Application:
    """The three deployments, with as many requests under way as the product allows."""
    deployment = serve.deployment(max_ongoing_requests=UNDER_WAY, ray_actor_options={"num_cpus": 0.1})
    encoder, retriever = deployment(NoopEncoder).bind(args.computes_ms), deployment(NoopRetriever).bind()
    return deployment(serve.ingress()(NoopGateway)).bind(encoder, retriever)
