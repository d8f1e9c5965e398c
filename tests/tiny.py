"""A language model small enough for tests: a real transformers folder of random weights."""

import tempfile
from functools import cache
from pathlib import Path

TEXTS = [
    "Movies like The Matrix, Alien, Blade Runner and Toy Story 2 are good.",
    "A user liked Aliens, Finding Nemo; rank the candidates: Titanic, The Shining.",
    '{"items": ["Toy Story", "Alien"], "likes": ["space"], "rating": 4}',
]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def tiny_folder(layers: int = 2) -> Path:
    """A causal model of few small layers with its own byte-level tokenizer and chat form."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    network = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
            initializer_range=0.3, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="onoma-tiny-")) / "model"
    network.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
