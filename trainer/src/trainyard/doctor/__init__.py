"""The checks of `trainyard doctor`, a module for each thing that a record passes through."""
