"""What the tasks that sort examples into classes have in common: division of the data, training loop, evaluation, reports."""
