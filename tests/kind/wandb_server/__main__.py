"""Start the stand-in: `python -m tests.kind.wandb_server --port 8080 --public-url http://wandb:8080`."""

import argparse

from .server import Server
from .store import KEY


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="wandb_server", description="A stand-in for the W&B server; see README.md.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 in a pod")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--public-url", default="", help="how clients reach it: upload URLs start with it")
    parser.add_argument("--key", default=KEY, help="the API key that is right")
    arguments = parser.parse_args()
    server = Server(arguments.host, arguments.port, arguments.public_url, arguments.key)
    print(f"listening on {arguments.host}:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
