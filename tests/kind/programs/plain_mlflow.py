"""A script that knows MLflow and nothing else."""

import mlflow

with mlflow.start_run():
    mlflow.log_param("lr", 0.1)
    for step in range(20):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
