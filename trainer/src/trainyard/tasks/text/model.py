"""The network."""

from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from trainyard.tasks.text.config import ModelConfig
from trainyard.tasks.text.vocabulary import PADDING


class TextClassifier(nn.Module):
    """BERT with a classifier, its weights random."""

    def __init__(self, config: ModelConfig, *, words: int, length: int, classes: int) -> None:
        """`words` that are known, `length` of the longest text in tokens."""
        super().__init__()
        shape = BertConfig(
            vocab_size=words,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=4 * config.width,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            max_position_embeddings=length,
            type_vocab_size=1,
            pad_token_id=PADDING,
            num_labels=classes,
        )
        self.network = BertForSequenceClassification(shape)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of shape (n, length), whole numbers; logits of shape (n, classes)."""
        bert = self.network.bert
        # What `self.network(...)` does, part by part: torch.export cannot look through the decorators around the whole.
        read = (tokens != PADDING)[:, None, None, :]
        hidden = bert.encoder(bert.embeddings(input_ids=tokens), attention_mask=read).last_hidden_state
        logits: Tensor = self.network.classifier(self.network.dropout(bert.pooler(hidden)))
        return logits


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """For an optimizer: matrices decay, biases and the weights of layer norms, which have one dimension, do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [each for each in trained if each.dim() > 1], "weight_decay": weight_decay},
        {"params": [each for each in trained if each.dim() <= 1], "weight_decay": 0.0},
    ]
