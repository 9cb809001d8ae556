"""The record of a run on local disk: written by the training process, read by the shipper. The format is described in README.md."""
