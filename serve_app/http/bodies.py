"""Bodies to models: JSON and multipart forms are read here, and what is wrong with them becomes one sentence. Knows no route."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serve_app.errors import InvalidRequest, InvalidVector, PictureTooLarge
from serve_app.types import InlinePicture

Model = TypeVar("Model", bound=BaseModel)

MAX_JSON_VALUES = 4_000_000
"""Python needs tens of bytes for a value that JSON writes with two; the marks are counted before anything is parsed."""
MAX_NAME_CHARACTERS = 64


def media_type_of(request: Request) -> str:
    """The request's media type in lower case, without parameters; one of the two that bodies may have."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in ("application/json", "multipart/form-data"):
        raise InvalidRequest("The header Content-Type must be application/json or multipart/form-data.")
    return media_type


def require_json(request: Request) -> None:
    """For calls that take no form. Raises InvalidRequest."""
    if media_type_of(request) != "application/json":
        raise InvalidRequest("The header Content-Type must be application/json: this call takes no form.")


async def read_json(request: Request, model: type[Model]) -> Model:
    """The request's JSON body as this model; raises InvalidRequest (InvalidVector where a vector is wrong)."""
    return parse_json(await request.body(), model)


def parse_json(source: bytes | str, model: type[Model], prefix: str = "") -> Model:
    """JSON text as this model. `prefix` names the part of a form that it came in."""
    text = source.encode() if isinstance(source, str) else source
    # Each value needs a mark of its own, so a short text need not be counted.
    if len(text) > MAX_JSON_VALUES and sum(text.count(mark) for mark in (b"[", b"{", b",")) > MAX_JSON_VALUES:
        raise InvalidRequest(f"The JSON may hold at most {MAX_JSON_VALUES} values.")
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise _sentence(error, prefix) from error


def _sentence(error: ValidationError, prefix: str) -> InvalidRequest:
    details = error.errors(include_url=False, include_input=False)
    first = details[0]
    where = _path(first["loc"], prefix)
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    kind = (
        InvalidVector
        if "vector" in first["loc"] and first["type"] not in ("missing", "extra_forbidden")
        else InvalidRequest
    )
    return kind(f"{where}: {_expectation(first)}{more}.")


def _path(location: Sequence[int | str], prefix: str) -> str:
    path = prefix
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("<"):  # the tag of a union's member, which no client knows
            path += ("." if path else "") + step[:MAX_NAME_CHARACTERS]
    return path or "The body"


def _expectation(detail: ErrorDetails) -> str:
    said = {
        "extra_forbidden": "there is no such field",
        "missing": "this field is required",
        "model_type": "expected an object",
        "model_attributes_type": "expected an object",
        "tuple_type": "expected a list",
        "json_invalid": f"not valid JSON, {detail.get('ctx', {}).get('error', '')}",
    }
    if detail["type"] in ("too_long", "too_short"):
        context = detail["ctx"]
        bound = f"at most {context['max_length']}" if "max_length" in context else f"at least {context['min_length']}"
        return f"expected {bound} items"
    message = said.get(detail["type"], detail["msg"])
    return (message[0].lower() + message[1:]).removesuffix(".").replace("input should be", "expected")


# --- forms ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_form(request: Request, max_files: int, max_field_bytes: int) -> AsyncIterator[FormData]:
    """The multipart body; its files lie in temporary files until the context ends."""
    try:
        form = await request.form(max_files=max_files, max_fields=1, max_part_size=max_field_bytes)
    except HTTPException as error:
        raise InvalidRequest(f"The multipart body cannot be read: {str(error.detail).removesuffix('.')}.") from error
    try:
        yield form
    finally:
        await form.close()


def json_part(form: FormData, name: str, model: type[Model]) -> Model | None:
    """The one part that is no file, if there is one, as this model."""
    for key, value in form.multi_items():
        if isinstance(value, str):
            if key != name:
                raise InvalidRequest(
                    f"{key[:MAX_NAME_CHARACTERS]}: there is no such part; the JSON part is called `{name}`."
                )
            return parse_json(value, model, prefix=name)
    return None


def file_parts(form: FormData) -> list[tuple[str, UploadFile]]:
    """The parts that are files, in order, by name."""
    return [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]


async def picture_of(part: UploadFile, max_picture_bytes: int) -> InlinePicture:
    """The bytes of a file part; raises PictureTooLarge."""
    if (part.size or 0) > max_picture_bytes:
        raise PictureTooLarge(f"A picture file may have at most {max_picture_bytes} bytes.")
    return InlinePicture(await part.read())
