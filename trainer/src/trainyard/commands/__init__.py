"""What can be typed after `trainyard`, a module each. Reading a command line imports neither torch nor MLflow."""
