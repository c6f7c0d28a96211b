"""What the API shows of the catalogue: a row for a list, and one model with its parameters and an example."""

from receiver.model.records import JsonObject
from receiver.model.views import ModelRow, ModelView, ParamView
from receiver.runninghub.catalogue import Found, Model, Param, example
from receiver.runninghub.validation import takes


def model_row(model: Model) -> ModelRow:
    return ModelRow(
        name=model.name, endpoint=model.endpoint, group=list(model.group), output=model.output, listed=model.listed
    )


def model_view(found: Found) -> ModelView:
    """A model by whatever name it was found."""
    model = found.model
    input: JsonObject = example(model)
    return ModelView(
        name=model.name,
        endpoint=model.endpoint,
        group=list(model.group),
        output=model.output,
        listed=model.listed,
        note=found.note,
        params=[_param_view(param) for param in model.params],
        example=input,
    )


def _param_view(param: Param) -> ParamView:
    default = list(param.default) if isinstance(param.default, tuple) else param.default
    return ParamView(
        name=param.name,
        type=param.type,
        required=param.required,
        default=default,
        allowed=takes(param),
        choices=list(param.enum),
    )
