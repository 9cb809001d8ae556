"""The backends by name. Each is imported when it is used: the shipper in a pod has no memory for libraries that it does not need."""

from typing import Final

from trainyard.shipping.backend import Backend

BACKENDS: Final = ("json", "mlflow", "wandb")


def make_backend(name: str) -> Backend:
    """One of `BACKENDS`."""
    match name:
        case "json":
            from trainyard.shipping.json_folder import JsonFolder

            return JsonFolder()
        case "wandb":
            from trainyard.shipping.wandb import WandbBackend

            return WandbBackend()
        case _:
            from trainyard.shipping.mlflow.backend import MlflowBackend

            return MlflowBackend()
