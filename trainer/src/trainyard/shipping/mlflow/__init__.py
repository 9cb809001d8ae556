"""Delivery to MLflow: by its REST API, or straight into the database file of a laptop that has no server."""
