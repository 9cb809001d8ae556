"""The parts of a language model's training, one by one."""

import math

import pytest
import torch
from torch import nn
from trainyard.errors import ConfigError
from trainyard.tasks.lm.acceleration import refuse_impossible, uses_bfloat16
from trainyard.tasks.lm.config import DataConfig, ModelConfig, OptimizerConfig
from trainyard.tasks.lm.loop import perplexity
from trainyard.tasks.lm.model import GPT, generate
from trainyard.tasks.lm.optimization import adamw, warmup_cosine
from trainyard.tasks.lm.speed import Speed, flops_per_token, peak_flops
from trainyard.tasks.lm.text import Sequences, language_reference, load, standard_library

TINY = ModelConfig(layers=2, heads=2, width=16, context=8)


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(TINY)


def test_a_position_does_not_see_those_after_it(model: GPT) -> None:
    tokens = torch.randint(256, (1, 8), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[0, 5] = (other[0, 5] + 1) % 256
    before, after = model(tokens)[0], model(other)[0]
    assert torch.equal(before[:5], after[:5])
    assert not torch.allclose(before[5:], after[5:])


def test_an_untrained_model_knows_nothing(model: GPT) -> None:
    tokens, targets = torch.randint(256, (2, 4, 8), generator=torch.Generator().manual_seed(0))
    logits = model(tokens)
    assert logits.shape == (4, 8, 256)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    assert loss.item() == pytest.approx(math.log(256), abs=0.2)


def test_what_reads_bytes_predicts_them(model: GPT) -> None:
    parameters = dict(model.named_parameters())
    assert [name for name, weight in parameters.items() if 256 in weight.shape] == ["tokens.weight"]


def test_generation_repeats_itself_for_a_seed_alone(model: GPT) -> None:
    prompt = torch.tensor([1, 2, 3])
    first, again, other = (
        generate(model, prompt, 20, context=8, temperature=1.0, seed=seed).tolist() for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first[:3] == [1, 2, 3]
    assert len(first) == 23


def test_the_learning_rate_rises_along_a_line_and_falls_along_a_cosine() -> None:
    config = OptimizerConfig(lr=0.5, warmup_steps=4, min_lr_share=0.2)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.lr)
    schedule = warmup_cosine(optimizer, config, steps=9)
    rates = []
    for _ in range(9):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5])
    assert rates[6] == pytest.approx(0.5 * (0.2 + 0.8 / 2))
    assert rates[8] == pytest.approx(0.5 * 0.2)


def test_a_training_may_be_shorter_than_the_rise() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, OptimizerConfig(lr=1.0, warmup_steps=10), steps=2)
    assert schedule.get_last_lr() == pytest.approx([0.1])
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.2])


def test_matrices_decay_and_nothing_else_does(model: GPT) -> None:
    optimizer = adamw(model, OptimizerConfig(weight_decay=0.3, beta1=0.8, beta2=0.9))
    decay = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    by_name = {name: decay[id(weight)] for name, weight in model.named_parameters()}
    assert {name for name, value in by_name.items() if value} == {
        f"blocks.{block}.{name}.weight"
        for block in (0, 1)
        for name in ("attention.qkv", "attention.out", "feed_forward.up", "feed_forward.down")
    }
    assert set(by_name.values()) == {0.3, 0.0}
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.9)}


def test_what_is_frozen_is_not_optimized(model: GPT) -> None:
    model.tokens.requires_grad_(False)
    optimizer = adamw(model, OptimizerConfig())
    optimized = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    assert id(model.tokens.weight) not in optimized
    assert id(model.positions.weight) in optimized


@pytest.mark.parametrize("own", [language_reference, standard_library])
def test_the_texts_that_come_with_python_are_large_and_the_same_each_time(own: object) -> None:
    first, again = load(DataConfig(), own), load(DataConfig(), own)  # type: ignore[arg-type]
    assert first.statistics["bytes"] > 400_000
    assert first.version == again.version
    assert torch.equal(first.train, again.train)
    assert len(first.validation) == pytest.approx(0.1 * first.statistics["bytes"], rel=0.01)


def test_the_texts_differ() -> None:
    assert load(DataConfig(), language_reference).version != load(DataConfig(), standard_library).version


def test_the_end_of_the_text_is_for_validation() -> None:
    text = load(DataConfig(validation_fraction=0.25), lambda: b"aaabbb" * 10 + b"cccccccccccccccccccc")
    assert set(text.train.tolist()) == set(b"ab")
    assert set(text.validation.tolist()) == set(b"c")


def test_what_is_predicted_is_the_next_byte() -> None:
    sequences = Sequences(torch.arange(12, dtype=torch.uint8), 4, torch.device("cpu"))
    assert sequences.count == 2
    tokens, targets = sequences.get(torch.tensor([1, 0]))
    assert tokens.tolist() == [[4, 5, 6, 7], [0, 1, 2, 3]]
    assert targets.tolist() == [[5, 6, 7, 8], [1, 2, 3, 4]]


def test_a_text_that_is_too_short_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.context=8: a part of the text has only 8 bytes"):
        Sequences(torch.zeros(8, dtype=torch.uint8), 8, torch.device("cpu"))


def test_speed_is_told_with_each_tenth_step() -> None:
    speed = Speed(tokens_per_step=100, flops_per_token=1e6, peak=1e12)
    told = []
    for _ in range(20):
        with speed.step():
            torch.randn(10).sum()
        told.append(speed.metrics())
    assert [bool(each) for each in told] == [number % 10 == 9 for number in range(20)]
    last = told[-1]
    assert last["tokens_per_second"] == speed.tokens_per_second > 0
    assert last["mfu"] == pytest.approx(last["tokens_per_second"] * 1e6 / 1e12)


def test_no_mfu_where_the_peak_is_not_known() -> None:
    speed = Speed(tokens_per_step=100, flops_per_token=1e6, peak=None)
    for _ in range(10):
        with speed.step():
            pass
    assert set(speed.metrics()) == {"tokens_per_second"}


def test_flops_as_in_palm() -> None:
    config = ModelConfig(layers=3, heads=4, width=128, context=64)
    assert flops_per_token(1000, config) == 6 * 1000 + 12 * 3 * 4 * 32 * 64


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A10G", None),
        ("Tesla T4", None),
    ],
)
def test_peaks(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak


def test_perplexity_of_any_loss() -> None:
    assert perplexity(math.log(7)) == pytest.approx(7)
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_bfloat16_where_it_is_asked_for() -> None:
    cpu = torch.device("cpu")
    assert not uses_bfloat16("auto", cpu)
    assert not uses_bfloat16("float32", cpu)
    assert uses_bfloat16("bfloat16", cpu)


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    refuse_impossible("auto")
    refuse_impossible("false")
    with pytest.raises(ConfigError, match="compile=true: there is no C"):
        refuse_impossible("true")


def test_heads_share_the_width_evenly() -> None:
    with pytest.raises(ConfigError, match=r"model\.width=30: must be a multiple of model\.heads, which is 4"):
        ModelConfig(width=30, heads=4)
