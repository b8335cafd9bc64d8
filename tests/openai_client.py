"""What the tests of OpenAI's client share, over the fakes and over the real graph."""

import base64

import numpy as np
import openai
from openai.types import CreateEmbeddingResponse

from serve_app.types import FloatMatrix


def client_of(address: str) -> openai.OpenAI:
    """OpenAI's client as it is, but for retries, which would only hide what is tested."""
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=30)


def data_uri(picture: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(picture).decode()}"


def embed_picture_as_vllm_does(client: openai.OpenAI, model: str, url: str) -> CreateEmbeddingResponse:
    """As the documentation of vLLM tells its users to send a picture."""
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"messages": [{"role": "user", "content": content}], "model": model, "encoding_format": "float"}
    return client.post("/embeddings", cast_to=CreateEmbeddingResponse, body=body)


def matrix_of(answer: CreateEmbeddingResponse) -> FloatMatrix:
    """The vectors in the order of the request, shape [n, dimension]."""
    assert [each.index for each in answer.data] == list(range(len(answer.data)))
    return np.array([each.embedding for each in answer.data], np.float32)
