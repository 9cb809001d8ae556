"""From the spool to where people look: MLflow, Weights & Biases, or a folder of JSON."""
