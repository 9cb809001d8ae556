"""The network: the decoder of GPT-2 (Radford et al. 2019), over bytes."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention, softmax

from trainyard.tasks.lm.config import ModelConfig
from trainyard.tasks.lm.text import VOCABULARY


class Attention(nn.Module):
    """Each position mixes what it and those before it hold."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, t, width) in and out."""
        n, t, width = x.shape
        query, key, value = self.qkv(x).view(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(n, t, width))


class FeedForward(nn.Module):
    """Two linear layers with GELU between them, for each position alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, 4 * config.width, bias=False)
        self.down = nn.Linear(4 * config.width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, t, width) in and out."""
        return self.down(gelu(self.up(x)))


class Block(nn.Module):
    """Attention and feed-forward, each normalized before it and added to what comes in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.width)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, t, width) in and out."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class GPT(nn.Module):
    """Gives for each byte of a text the logits of the next one. The matrix that reads bytes also predicts them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.context = config.context
        self.tokens = nn.Embedding(VOCABULARY, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.apply(_initialize)
        # What the residual stream adds up grows with the number of layers (GPT-2, section 2.3).
        for name, weight in self.named_parameters():
            if name.endswith(("attention.out.weight", "feed_forward.down.weight")):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Integers of shape (n, t), 0 to 255, t <= context, to logits of shape (n, t, 256)."""
        x = self.dropout(self.tokens(tokens) + self.positions.weight[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x)
        return linear(self.norm(x), self.tokens.weight)


@torch.no_grad()
def generate(model: nn.Module, prompt: Tensor, length: int, *, context: int, temperature: float, seed: int) -> Tensor:
    """`prompt`, shape (t,), t >= 1, followed by `length` sampled tokens; deterministic for each `seed`."""
    model.eval()
    chosen = torch.Generator().manual_seed(seed)
    tokens = prompt
    for _ in range(length):
        logits = model(tokens[-context:].unsqueeze(0))[0, -1].float()
        likely = softmax(logits / temperature, dim=-1).cpu()
        tokens = torch.cat((tokens, torch.multinomial(likely, 1, generator=chosen).to(tokens.device)))
    return tokens


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
