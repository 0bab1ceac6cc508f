#!/usr/bin/env python3
"""Makes the golden token ids beside this file with Hugging Face tokenizers (0.23.3 made them).

Trains a byte-level BPE of 700 tokens with SmolLM2's pre-tokenizer on the text below, a part of the
byte alphabet missing as in SmolLM2, and encodes texts that are meant to be difficult.
"""
import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[3]
TRAINING_FILES = ["docs/formats/artefact.md", "docs/formats/dataset.md", "sampler/sample_sequence.h"]
MISSING_BYTES = {0x04, 0x06, 0x13, 0xC0, 0xC1, 0xF5}
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    "", " ", "\n", "a", "The dataset, the tokens and the sample.", "  leading and trailing  ",
    "tokens tokenizer untokenised TOKENS", "don't we'll I'M they've 'tis ''s", "x\r\n\r\n\ty\t\t z \n",
    "1234567 3.14e-10 a1b2 ½ ² Ⅷ ٣٤٥ 𝟘𝟙", "naïve café Straße ǅ İstanbul", "中文，日本語。한국어 ไทย עברית",
    "👨‍👩‍👧 🇩🇪 e\u0301\u0323 \u200b\ufeff\u180e\u2028\u3000\u00a0x", "\x00\x01\x04\x06\x13\x7f\x85",
    "<|im_start|>user\nhi<|im_end|>", "<|im_start", "<<|im_end|>|><|endoftext|><|endoftext|>",
    "a <think> b</think>", "\U0010ffff\U000e0001\ue000\U00031350\U00016d63\U0001e4d0", "if (x[i] == '\\0') { return -1; }",
    "\\begin{equation}\\alpha_{i,j} \\le 10^{-3}\\end{equation}", "a" * 300, " " * 70 + "x", "\n" * 40, "ab" * 90 + "!?" * 40,
]


def byte_alphabet():
    """GPT-2's bytes_to_unicode."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def main():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=[c for byte, c in sorted(byte_alphabet().items()) if byte not in MISSING_BYTES],
        show_progress=False,
    )
    tokenizer.train_from_iterator([(ROOT / f).read_text() for f in TRAINING_FILES], trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=True), AddedToken("</think>", normalized=False)])
    tokenizer.save(str(HERE / "tokenizer.json"), pretty=False)
    golden = {"texts": TEXTS, "smollm": [tokenizer.encode(t, add_special_tokens=False).ids for t in TEXTS]}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    golden["llama3"] = [tokenizer.encode(t, add_special_tokens=False).ids for t in TEXTS]
    (HERE / "golden_ids.json").write_text(json.dumps(golden, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
