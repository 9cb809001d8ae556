"""The end of a training: the test, what people look at, the registered model."""

from collections.abc import Callable, Mapping
from typing import Any

from sklearn.metrics import f1_score

from trainyard import distributed
from trainyard.reports.confusion_matrix import confusion_matrix_png
from trainyard.reports.history import history_csv
from trainyard.reports.learning_curve import Curve, learning_curve_png
from trainyard.reports.sample_predictions import sample_predictions_json
from trainyard.tasks.base import Context
from trainyard.tasks.classification.data import Dataset
from trainyard.tasks.classification.examples import Examples, predict
from trainyard.tasks.classification.fit import Recipe
from trainyard.tasks.classification.history import History
from trainyard.tasks.classification.score import MetricNames
from trainyard.tasks.conclusion import tag_parameter_hash
from trainyard.tasks.sections import TrackingConfig

_EXAMPLES = 4


def conclude(
    context: Context,
    recipe: Recipe,
    history: History,
    dataset: Dataset,
    *,
    tracking: TrackingConfig,
    describe: Callable[[int], Mapping[str, Any]] | None = None,
) -> dict[str, float]:
    """Returns the test's metrics; on all ranks.

    Args:
        context, recipe, history, dataset: of the training.
        tracking: says what the model is called in the registry.
        describe: what sample predictions say of a test example, by its position in the test part.
    """
    run, names, test = context.run, recipe.names, dataset.test
    said = predict(recipe.model, Examples(test, context.world.device), context.world)
    metrics = names.named("test", said.score)
    metrics["test/macro_f1"] = float(f1_score(test.labels, said.classes, average="macro"))
    run.log_metrics(metrics, step=history.epochs)
    run.log_bytes("confusion_matrix.png", confusion_matrix_png(test.labels, said.classes, classes=dataset.class_names))
    samples = sample_predictions_json(
        test.indices,
        test.labels,
        said.probabilities,
        classes=dataset.class_names if dataset.has_names else None,
        describe=describe,
    )
    run.log_bytes("sample_predictions.json", samples)
    run.log_bytes("learning_curve.png", learning_curve_png(_curves(history, names)))
    run.log_bytes("history.csv", history_csv(history.rows))
    tag_parameter_hash(recipe.model, run)
    run.log_model(
        distributed.plain(recipe.model),
        input_example=test.inputs[:_EXAMPLES],
        register=tracking.model,
        alias="challenger",
        step=history.epochs,
    )
    return metrics


def _curves(history: History, names: MetricNames) -> dict[str, dict[str, Curve]]:
    epochs = history.curve("epoch")

    def curves(measure: str) -> dict[str, Curve]:
        columns = {"train": f"train/{measure}{names.epoch}", "validation": f"validation/{measure}"}
        return {part: list(zip(epochs, history.curve(column), strict=True)) for part, column in columns.items()}

    return {measure: curves(measure) for measure in ("loss", names.accuracy)}
