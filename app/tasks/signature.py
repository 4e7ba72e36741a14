"""From a function's signature to the JSON Schemas of its parameters and its result."""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError

from app.common.strict_json import MAX_INTEGER, MIN_INTEGER
from app.tasks.context import TaskContext
from app.tasks.errors import TaskDeclarationError
from app.tasks.results import StoredResult

JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class Signature:
    """What the signature says: the model of the parameters, the adapter of the result."""

    params_model: type[BaseModel]
    result_adapter: TypeAdapter[Any]
    takes_context: bool
    is_async: bool

    def arguments(self, model: BaseModel) -> dict[str, Any]:
        """Return the keyword arguments that a validated model stands for."""
        return {
            str(field.alias): getattr(model, name)
            for name, field in self.params_model.model_fields.items()
        }

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of the parameters as callers write them."""
        return tuple(str(field.alias) for field in self.params_model.model_fields.values())

    @property
    def params_schema(self) -> dict[str, Any]:
        """The JSON Schema 2020-12 of the parameters object."""
        return {"$schema": JSON_SCHEMA_DIALECT, **self.params_model.model_json_schema()}

    @property
    def result_schema(self) -> dict[str, Any]:
        """The JSON Schema 2020-12 of the result document."""
        return {
            "$schema": JSON_SCHEMA_DIALECT,
            **self.result_adapter.json_schema(mode="serialization"),
        }


def read_signature(name: str, function: Callable[..., Any]) -> Signature:
    """Return the signature of a task function; TaskDeclarationError says which part cannot be read,
    and the cure.
    """
    hints = _hints(name, function)
    parameters = list(inspect.signature(function).parameters.values())
    takes_context = bool(parameters) and hints.get(parameters[0].name) is TaskContext
    if takes_context:
        parameters = parameters[1:]
    # The fields get names of our own and the parameters' names as aliases, because a
    # parameter may be called like an attribute of the model class ("schema", "copy").
    fields: dict[str, Any] = {
        f"arg_{index}": _field(name, parameter, hints) for index, parameter in enumerate(parameters)
    }
    if "return" not in hints:
        raise TaskDeclarationError(
            f"The task '{name}' does not say what it returns.",
            hint="Annotate the result, '-> None' when there is none.",
        )
    try:
        params_model = create_model(
            _model_name(name), __config__=ConfigDict(extra="forbid"), **fields
        )
        adapter: TypeAdapter[Any] = TypeAdapter(_result_type(hints["return"]))
        signature = Signature(
            params_model, adapter, takes_context, inspect.iscoroutinefunction(function)
        )
        _ = signature.params_schema, signature.result_schema
    except (
        PydanticSchemaGenerationError,
        PydanticUserError,
        PydanticUndefinedAnnotation,
    ) as error:
        reason = str(error).splitlines()[0]
        raise TaskDeclarationError(
            f"The task '{name}' has a type that JSON cannot carry: {reason}",
            hint="Use plain types, dataclasses, TypedDicts or pydantic models.",
        ) from error
    return signature


def encode_result(signature: Signature, value: object) -> bytes:
    """Return the result as JSON in UTF-8; TypeError when it is not what the annotation promises."""
    try:
        if value is None:
            # The serializer takes None for every type: a forgotten return would pass.
            signature.result_adapter.validate_python(None)
        return signature.result_adapter.dump_json(value, warnings="error")
    except (PydanticSerializationError, ValidationError) as error:
        message = f"The result is not what the task's annotation promises: {error}"
        raise TypeError(message) from error


def decode_result(document: bytes) -> Any:
    """Return the value of an encoded result; TypeError for an integer that JSON databases round."""
    return json.loads(document, parse_int=_exact)


def _exact(digits: str) -> int:
    # The length first: converting thousands of digits is quadratic and, in the end, refused.
    if len(digits) > 20 or not MIN_INTEGER <= (number := int(digits)) <= MAX_INTEGER:
        message = "The result holds an integer beyond 64 bits, which would be kept inexactly."
        raise TypeError(message)
    return number


def _hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception as error:
        # Text annotations are evaluated here: whatever Python raises, the text is at fault.
        raise TaskDeclarationError(
            f"The task '{name}' has an annotation that cannot be read: {error}.",
            hint="Import the type at module level, not only under TYPE_CHECKING.",
        ) from error


def _field(name: str, parameter: inspect.Parameter, hints: dict[str, Any]) -> tuple[Any, Any]:
    if parameter.kind in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
        parameter.POSITIONAL_ONLY,
    ):
        raise TaskDeclarationError(
            f"The task '{name}' has the parameter '{parameter}', which has no name of its own.",
            hint="Every parameter of a task is passed by name: list them one by one.",
        )
    if parameter.name not in hints:
        raise TaskDeclarationError(
            f"The parameter '{parameter.name}' of the task '{name}' has no type.",
            hint=_ANNOTATE.get(parameter.name)
            or f"Annotate it, for example '{parameter.name}: str'.",
        )
    if TaskContext in (hints[parameter.name], *get_args(hints[parameter.name])):
        raise TaskDeclarationError(
            f"The context of the task '{name}' is not its first parameter '{parameter.name}: "
            "TaskContext'.",
            hint=f"Write def {name.rpartition('.')[2]}({parameter.name}: TaskContext, ...): it is "
            "always there, and callers do not pass it.",
        )
    if isinstance(parameter.default, FieldInfo):
        raise TaskDeclarationError(
            f"The parameter '{parameter.name}' of the task '{name}' has a Field as its default.",
            hint=f"Write '{parameter.name}: Annotated[int, Field(gt=0)] = 5', so that a plain "
            "call of the function works as well.",
        )
    default = ... if parameter.default is parameter.empty else parameter.default
    return hints[parameter.name], Field(default, alias=parameter.name)


_ANNOTATE = {
    "ctx": "The context is told by its type: write 'ctx: TaskContext'.",
    "context": "The context is told by its type: write 'context: TaskContext'.",
    "self": "A task is a function, not a method: take it out of the class.",
}


def _result_type(annotation: Any) -> Any:
    # A stored document can have any shape, so its schema is the empty one.
    return Any if annotation is StoredResult else annotation


def _model_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.replace(".", "_").split("_")) + "Params"
