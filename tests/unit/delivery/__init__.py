"""Whether MLflow has exactly what was logged, whoever is killed, and when."""
