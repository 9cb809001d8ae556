"""Softmax regression on handwritten digits in plain numpy: a program of your own, as softmax.yaml searches its settings.

It knows nothing of sweeps: the metric that it records by its name is what they go by.
"""

import argparse

import numpy as np
import trainyard
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.5)
parser.add_argument("--l2", type=float, default=1e-4)
parser.add_argument("--epochs", type=int, default=30)
options = parser.parse_args()

images, labels = load_digits(return_X_y=True)
images = images / 16
order = np.random.default_rng(0).permutation(len(labels))
train, validation = order[:1200], order[1200:]
weights = np.zeros((images.shape[1], 10))

with trainyard.run("softmax", params=vars(options)) as run:
    for epoch in range(1, options.epochs + 1):
        scores = images[train] @ weights
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        loss = -np.log(shares[range(len(train)), labels[train]] + 1e-12).mean()
        slope = images[train].T @ (shares - np.eye(10)[labels[train]]) / len(train)
        weights -= options.lr * (slope + options.l2 * weights)
        accuracy = ((images[validation] @ weights).argmax(axis=1) == labels[validation]).mean()
        run.log_metrics({"train/loss": float(loss), "validation/accuracy": float(accuracy)}, step=epoch)
