"""What people look at after training, made from labels and predicted probabilities."""
