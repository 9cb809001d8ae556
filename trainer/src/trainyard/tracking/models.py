"""Models in MLflow's format, saved without a server."""

import shutil
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any


def save_model(model: object, folder: Path, *, input_example: Any) -> None:
    """Write `model` to the new directory `folder`. Raises TypeError for a kind of model that is not known here.

    torch: as a torch.export program (pt2), which loads without our code and without unpickling classes; needs an input
    example whose first dimension, the batch, is 2 or more, or the program would take that batch size only.
    """
    if isinstance(model, str | PathLike):
        _copy(Path(model), folder)
        return
    kinds = {each.__module__.partition(".")[0] for each in type(model).__mro__}
    if "torch" in kinds:
        _save_torch(model, folder, input_example)
    elif "sklearn" in kinds:
        _save_sklearn(model, folder, input_example)
    else:
        raise TypeError(
            f"log_model: {type(model).__name__} is neither a torch module nor a scikit-learn estimator; save it with "
            "mlflow.<flavor>.save_model(model, path) and pass the path"
        )


def _copy(source: Path, folder: Path) -> None:
    if not (source / "MLmodel").is_file():
        raise FileNotFoundError(f"log_model: {source} is not a model in MLflow's format: it has no file MLmodel")
    shutil.copytree(source, folder)


def _save_torch(model: Any, folder: Path, example: Any) -> None:
    import mlflow.pytorch
    import torch
    from mlflow.models import infer_signature

    if example is None or len(example) < 2:
        raise TypeError(
            "log_model: a torch model needs input_example, an array whose first dimension, the batch, is 2 or more"
        )
    _quiet()
    device = next(model.parameters(), torch.empty(0)).device
    training = model.training
    model.eval()
    with torch.no_grad():
        output = model(torch.as_tensor(example).to(device)).cpu().numpy()
    mlflow.pytorch.save_model(
        model.cpu(),
        str(folder),
        signature=infer_signature(example, output),
        input_example=example,
        serialization_format="pt2",
        # Named, or MLflow would load the model in a new process to find out; a local version such as +debian is in no index.
        pip_requirements=_requirements("mlflow", "numpy", "torch"),
    )
    model.to(device).train(training)


def _save_sklearn(model: Any, folder: Path, example: Any) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    _quiet()
    signature = None if example is None else infer_signature(example, model.predict(example))
    mlflow.sklearn.save_model(
        model,
        str(folder),
        signature=signature,
        input_example=example,
        # The default, skops, refuses to load decision trees and networks.
        serialization_format="cloudpickle",
        pip_requirements=_requirements("mlflow", "numpy", "scikit-learn"),
    )


def _requirements(*packages: str) -> list[str]:
    found = {"mlflow": "mlflow-skinny"}
    return [f"{name}=={version(found.get(name, name)).partition('+')[0]}" for name in packages]


def _quiet() -> None:
    import logging

    # It warns that an image without pip has no version of pip.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
