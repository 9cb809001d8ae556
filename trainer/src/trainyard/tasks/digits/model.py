"""The network."""

from torch import nn

from trainyard.tasks.digits.config import ModelConfig


def cnn(config: ModelConfig, *, classes: int) -> nn.Sequential:
    """Two convolutions, one pooling, two linear layers; about 150,000 parameters with the defaults.

    Takes images of shape (n, 1, 8, 8), 0 to 1; gives logits of shape (n, classes).
    """
    c = config.channels
    return nn.Sequential(
        nn.Conv2d(1, c, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c, 2 * c, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * c * 4 * 4, 128),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(128, classes),
    )
