"""A two-layer network on points in the plane: the smallest training that has everything a training has."""
