"""The miniature's own small vocabulary, in the files that every CLIP tokenizer reads (vocab.json and merges.txt)."""

import json
import os
import string
from pathlib import Path

from .factors import captions, sample_factors
from .stages import seeded

LENGTH = 77  # tokens of a prompt, as in Stable Diffusion
START, END = "<|startoftext|>", "<|endoftext|>"


def learned_tokenizer(folder: Path):
    """Load the CLIPTokenizer in `folder`; where there is none, it is learned first.

    Learning it again can number the words in another order: a text encoder keeps the one it was trained with."""
    from transformers import CLIPTokenizer

    if not folder.exists():
        unfinished = folder.with_name(folder.name + ".tmp")
        _learn(unfinished)
        os.replace(unfinished, folder)
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _learn(folder: Path) -> None:
    """Learn byte pairs from the captions and write them to `folder`.

    Every word of a caption becomes one token; other words are spelled out, letter by letter."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import Split
    from tokenizers.trainers import BpeTrainer

    random = seeded(7)
    lines = captions(sample_factors(4000, random, plain=True), random)
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = Split(" ", "removed")
    learner.train_from_iterator(
        (line.replace(",", " ,") for line in lines),
        BpeTrainer(vocab_size=2000, min_frequency=2, end_of_word_suffix="</w>", show_progress=False),
    )
    merges = [
        pair if isinstance(pair, list) else pair.split(" ") for pair in json.loads(learner.to_str())["model"]["merges"]
    ]
    letters = string.ascii_lowercase + string.digits + string.punctuation
    words = [*letters, *(letter + "</w>" for letter in letters), *dict.fromkeys(a + b for a, b in merges)]
    words = [*dict.fromkeys(words), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, indent=0), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges), ""]), encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
