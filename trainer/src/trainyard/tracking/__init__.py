"""The border between training and MLflow. Tasks know `run.Run` only; everything that imports MLflow is on this side."""
