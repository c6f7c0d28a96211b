"""What the API shows of the catalogue: a row for a list, and one model with its parameters and an example."""

from msgspec import convert
from msgspec.structs import asdict

from receiver.model.views import ModelRow, ModelView, ParamView
from receiver.runninghub.catalogue import Found, Model, Param, example
from receiver.runninghub.validation import takes


def model_row(model: Model) -> ModelRow:
    return convert(model, ModelRow, from_attributes=True)


def model_view(found: Found) -> ModelView:
    """A model by whatever name it was found."""
    params = [_param_view(param) for param in found.model.params]
    return ModelView(**asdict(model_row(found.model)), note=found.note, params=params, example=example(found.model))


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
