"""What the API shows of a model of the catalogue: its parameters, and an example."""

from receiver.model.shown import shown
from receiver.model.views import ModelView, ParamView
from receiver.runninghub.catalogue import Found, example
from receiver.runninghub.validation import takes


def model_view(found: Found) -> ModelView:
    """A model by whatever name it was found."""
    params = [shown(ParamView, each, allowed=takes(each), choices=each.enum) for each in found.model.params]
    return shown(ModelView, found.model, note=found.note, params=params, example=example(found.model))
