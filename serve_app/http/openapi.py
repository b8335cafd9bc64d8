"""openapi.json from the operations and the wire models. Knows no operation by name."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from serve_app.errors import CrossmodalError
from serve_app.http.answers import ErrorOut
from serve_app.http.error_table import status_of
from serve_app.http.operations import Answer, FormPart, Operation

REFERENCE = "#/components/schemas/{model}"


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
            if isinstance(model, type):
                inputs[model] = None
        outputs.update({answer.model: None for answer in operation.answers.values() if answer.model is not None})
    return list(inputs), list(outputs)


def _operation(operation: Operation, references: Any) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}_{operation.public_path.strip('/').replace('/', '_') or 'root'}".translate(
            str.maketrans("", "", "{}")
        ),
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
    if isinstance(part.json, type):
        return {"description": part.description, **references[part.json, "validation"]}
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {"description": part.description, **({"type": "array", "items": file} if part.repeated else file)}


def _answer(answer: Answer, references: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.model is not None:
        described["content"] = {"application/json": {"schema": references[answer.model, "serialization"]}}
    elif answer.media_types:
        described["content"] = {media_type: {} for media_type in answer.media_types}
    if answer.headers:
        described["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    return described


def _errors(errors: Iterable[type[CrossmodalError]], references: Any) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for error in errors:
        by_status.setdefault(status_of(error), []).append(f"`{error.code}`")
    schema = {"schema": references[ErrorOut, "serialization"]}
    return {
        str(status): {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(sorted(codes))}",
            "content": {"application/json": schema},
        }
        for status, codes in sorted(by_status.items())
    }
