"""What the API shows of the catalogue: a row for a list, and one model with its parameters and an example."""

from receiver.model.shown import shown
from receiver.model.views import ModelRow, ModelView, ParamView
from receiver.runninghub.catalogue import Found, Model, example
from receiver.runninghub.validation import takes


def model_row(model: Model) -> ModelRow:
    return shown(ModelRow, model)


def model_view(found: Found) -> ModelView:
    """A model by whatever name it was found."""
    params = [shown(ParamView, each, allowed=takes(each), choices=each.enum) for each in found.model.params]
    return shown(ModelView, found.model, note=found.note, params=params, example=example(found.model))
