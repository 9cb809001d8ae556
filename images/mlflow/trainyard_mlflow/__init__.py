"""Commands that the chart runs before the MLflow server: `trainyard-migrate` and `trainyard-bucket`."""
