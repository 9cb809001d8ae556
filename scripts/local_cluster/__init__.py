"""A Trainyard of one's own: the engine, the images, the kind cluster and the release behind `scripts/`.

Standard library only, so that a fresh machine needs nothing but Python. The parts, from the machine up:

- `probes` asks the machine, `decisions` turns its answers into choices (pure, and tested as such);
- `engine`, `tools`, `images`, `node_image` provide what the cluster is made of;
- `cluster`, `sysctls`, `release`, `forward` bring it to life and take it away again;
- `up`, `down`, `image` and `test` are the commands that people type.
"""
