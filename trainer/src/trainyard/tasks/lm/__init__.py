"""A small GPT over bytes; its parts also train the adapter of the task lora."""
