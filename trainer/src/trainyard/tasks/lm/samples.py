"""What a trained network writes, for people to look at."""

from collections.abc import Sequence

from torch import nn

from trainyard.tasks.lm.model import generate
from trainyard.tasks.lm.text import Text

_SAMPLES = 3
_PROMPT_BYTES = 32
_NEW_BYTES = 160
_TEMPERATURE = 0.8


def write_samples(model: nn.Module, text: Text, *, context: int, seed: int) -> Sequence[dict[str, str]]:
    """Beginnings of places of the text for validation, and how the model goes on; the same for the same weights."""
    device = next(model.parameters()).device
    samples = []
    for number in range(_SAMPLES):
        begin = number * len(text.validation) // _SAMPLES
        prompt = text.validation[begin : begin + _PROMPT_BYTES].long().to(device)
        written = generate(model, prompt, _NEW_BYTES, context=context, temperature=_TEMPERATURE, seed=seed + number)
        samples.append({"prompt": _readable(prompt.tolist()), "text": _readable(written[len(prompt) :].tolist())})
    return samples


def _readable(tokens: list[int]) -> str:
    return bytes(tokens).decode(errors="replace")
