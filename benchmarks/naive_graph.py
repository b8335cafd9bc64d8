"""The service as a tutorial would write it: one ingress, one float32 deployment that decodes and encodes under @serve.batch.

Two settings are kinder than a tutorial's, or it would form batches of five and two: enough requests may be under way to fill a
batch, and a batch waits 50 ms (the decorator forms a batch before it may run, so a short wait gives tiny ones).
Takes the requests of an OpenAI-shaped /v1/embeddings with one input each.
"""

import base64
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

MAX_BATCH_SIZE = 32
UNDER_WAY = 256


class NaiveArgs(BaseModel):
    """`args` of the application: the checkpoint's folder, and the CPUs (so torch's threads) of the one replica."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str
    num_cpus: int


@serve.deployment(max_ongoing_requests=UNDER_WAY)
class NaiveEncoder:
    def __init__(self, checkpoint: str) -> None:
        from benchmarks.plain import PlainOpenClip

        self._plain = PlainOpenClip(Path(checkpoint))

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=0.05)
    async def embed_pictures(self, files: list[bytes]) -> list[list[float]]:
        return [row.tolist() for row in self._plain.encode_files(files)]

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=0.05)
    async def embed_texts(self, texts: list[str]) -> list[list[float]]:
        return [row.tolist() for row in self._plain.encode_texts(texts)]


@serve.deployment(max_ongoing_requests=UNDER_WAY)
class NaiveIngress:
    def __init__(self, encoder: DeploymentHandle[Any]) -> None:
        self._encoder = encoder

    async def __call__(self, request: Request) -> dict[str, Any]:
        if request.url.path == "/readyz":
            await self._encoder.embed_texts.remote("ready?")
            return {"status": "ready"}
        asked = await request.json()
        (item,) = asked["input"]
        if asked.get("modality") == "image":
            file = base64.b64decode(item.partition(",")[2])
            vector = await self._encoder.embed_pictures.remote(file)
        else:
            vector = await self._encoder.embed_texts.remote(item)
        return {"data": [{"object": "embedding", "index": 0, "embedding": vector}]}


def build(args: NaiveArgs) -> Application:
    """The two deployments."""
    encoder = NaiveEncoder.options(ray_actor_options={"num_cpus": args.num_cpus}).bind(args.checkpoint)
    return NaiveIngress.bind(encoder)
