"""openapi.json from the operations and the wire models. Knows no operation by name."""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from serve_app.errors import CrossmodalError, every_error
from serve_app.http.answers import ErrorOut
from serve_app.http.error_table import status_of
from serve_app.http.operations import Answer, FormPart, Operation

REFERENCE = "#/components/schemas/{model}"
REQUEST_ID_HEADER = {"X-Request-ID": {"description": "Names the request in the log.", "schema": {"type": "string"}}}


def openapi(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The document, as OpenAPI 3.1 has it."""
    inputs, outputs = _models(operations)
    keyed: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in inputs),
        *((model, "serialization") for model in outputs),
    ]
    references, definitions = models_json_schema(keyed, ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.public_path, {})[operation.method.lower()] = _operation(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "crossmodal",
            "version": version,
            "description": "One search over text and pictures. Every error is `{error: {code, message, request_id}}`.",
        },
        "paths": paths,
        "components": {"schemas": definitions.get("$defs", {})},
    }


def _models(operations: Iterable[Operation]) -> tuple[list[type[BaseModel]], list[type[BaseModel]]]:
    inputs: dict[type[BaseModel], None] = {}
    outputs: dict[type[BaseModel], None] = {ErrorOut: None}
    for operation in operations:
        for model in (operation.body, *(part.json for part in operation.form)):
            if model is not None:
                inputs[model] = None
        outputs.update({answer.model: None for answer in operation.answers.values() if answer.model is not None})
    return list(inputs), list(outputs)


def _operation(operation: Operation, references: Any) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": "_".join([operation.method.lower(), *re.findall(r"\w+", operation.public_path)]),
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": {
            **{str(status): _answer(answer, references) for status, answer in operation.answers.items()},
            **_errors(operation.every_error, references),
        },
    }
    if operation.description:
        described["description"] = operation.description
    if operation.parameters:
        described["parameters"] = [
            {
                "name": each.name,
                "in": each.where,
                "required": each.where == "path",
                "description": each.description,
                "schema": dict(each.schema),
            }
            for each in operation.parameters
        ]
    content = _content(operation, references)
    if content:
        described["requestBody"] = {"required": True, "content": content}
    return described


def _content(operation: Operation, references: Any) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.body is not None:
        content["application/json"] = {"schema": references[operation.body, "validation"]}
    if operation.form:
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": {part.name: _part(part, references) for part in operation.form},
                "required": [part.name for part in operation.form if part.required],
            },
            "encoding": {
                part.name: {"contentType": "application/json"} for part in operation.form if part.json is not None
            },
        }
    return content


def _part(part: FormPart, references: Any) -> dict[str, Any]:
    if part.json is not None:
        return {"description": part.description, **references[part.json, "validation"]}
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {"description": part.description, **({"type": "array", "items": file} if part.repeated else file)}


def _answer(answer: Answer, references: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.model is not None:
        described["content"] = {"application/json": {"schema": references[answer.model, "serialization"]}}
    elif answer.media_types:
        described["content"] = {media_type: {} for media_type in answer.media_types}
    named = {name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()}
    return {**described, "headers": {**named, **REQUEST_ID_HEADER}}


def _errors(errors: Iterable[type[CrossmodalError]], references: Any) -> dict[str, Any]:
    """One answer for each status, that names every code which may come with it: the error's own and its descendants'."""
    by_status: dict[int, set[str]] = {}
    for error in (kind for root in errors for kind in every_error(root)):
        by_status.setdefault(status_of(error), set()).add(f"`{error.code}`")
    schema = {"schema": references[ErrorOut, "serialization"]}
    return {
        str(status): {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(sorted(codes))}",
            "headers": REQUEST_ID_HEADER,
            "content": {"application/json": schema},
        }
        for status, codes in sorted(by_status.items())
    }
