"""The unary calls of models and operations once, for both clients."""

from penchant import model_responses as responses
from penchant.calls import Call, Pages
from penchant.requests import models as requests
from penchant.responses import nothing

LIST_ALGORITHMS = Call(
    lambda stubs: stubs.model.ListAlgorithms, requests.list_algorithms, responses.algorithms
)
CREATE_MODEL = Call(lambda stubs: stubs.model.CreateModel, requests.create_model, responses.stored)
GET_MODEL = Call(lambda stubs: stubs.model.GetModel, requests.get_model, responses.details)
LIST_MODELS = Pages(lambda stubs: stubs.model.ListModels, requests.list_models, responses.models)
UPDATE_MODEL = Call(lambda stubs: stubs.model.UpdateModel, requests.update_model, responses.stored)
DELETE_MODEL = Call(lambda stubs: stubs.model.DeleteModel, requests.delete_model, nothing)
TRAIN_MODEL = Call(lambda stubs: stubs.model.TrainModel, requests.train_model, responses.operation)
CANCEL_TRAINING = Call(lambda stubs: stubs.model.CancelTraining, requests.cancel_training, nothing)
LIST_VERSIONS = Pages(
    lambda stubs: stubs.model.ListVersions, requests.list_versions, responses.versions
)
PROMOTE_VERSION = Call(
    lambda stubs: stubs.model.PromoteVersion, requests.promote_version, responses.promoted
)
ROLLBACK_MODEL = Call(
    lambda stubs: stubs.model.RollbackModel, requests.rollback_model, responses.promoted
)
DELETE_VERSION = Call(lambda stubs: stubs.model.DeleteVersion, requests.delete_version, nothing)
CLEAN_UP_MODELS = Call(
    lambda stubs: stubs.model.CleanUpModels, requests.clean_up_models, responses.cleaned_up
)
EVALUATE_MODEL = Call(
    lambda stubs: stubs.model.EvaluateModel, requests.evaluate_model, responses.operation
)
COMPARE_MODELS = Call(
    lambda stubs: stubs.model.CompareModels, requests.compare_models, responses.compared
)

GET_OPERATION = Call(
    lambda stubs: stubs.operations.GetOperation, requests.get_operation, responses.operation
)
LIST_OPERATIONS = Pages(
    lambda stubs: stubs.operations.ListOperations, requests.list_operations, responses.operations
)
CANCEL_OPERATION = Call(
    lambda stubs: stubs.operations.CancelOperation, requests.cancel_operation, nothing
)
