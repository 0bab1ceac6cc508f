#!/usr/bin/env python3
"""Holds our tokenizer to Hugging Face `tokenizers` and SentencePiece, id by id.

  tokenizer_oracle.py BIN_DIR TOKENIZER [TEXT_FOLDER...]

BIN_DIR holds `tokenize_lines`. The reference for a GGUF file is built here from the file's own
vocabulary and merges, not from what we wrote. Texts: adversarial ones made here, every Unicode code
point, and the "text" of every *.jsonl below the folders. Exit status 1 at the first difference.
Takes two minutes on one core.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def reference_from_gguf(path):
    import gguf

    fields = gguf.GGUFReader(path).fields

    def value(key):
        return fields["tokenizer.ggml." + key].contents()

    tokens = value("tokens")
    merges = [tuple(merge.split(" ")) for merge in value("merges")]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    )
    if value("pre") != "smollm":
        sys.exit(f"no reference for tokenizer.ggml.pre {value('pre')}")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token, kind in zip(tokens, value("token_type"))
            if kind == 3
        ]
    )
    return tokenizer


def with_llama3_split(path, folder):
    """The same vocabulary behind LLaMA-3's pre-tokenizer: another regular expression to agree on."""
    content = json.loads(pathlib.Path(path).read_text())
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": LLAMA3_SPLIT},
                "behavior": "Isolated",
                "invert": False,
            },
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ],
    }
    content["model"]["ignore_merges"] = True
    result = pathlib.Path(folder) / "llama3.json"
    result.write_text(json.dumps(content))
    return str(result)


def adversarial():
    everything = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    # Every code point, bare and between letters, digits, spaces and marks.
    for i in range(0, len(everything), 256):
        block = everything[i : i + 256]
        yield "".join(block)
        yield "a 1!\n".join(block)
    yield from ["", " ", "\n", "\r\n\r\n", "\t\t a", "   leading", "trailing   ", "\u00a0\u00a0x"]
    yield from ["'s't're've'm'll'd", "'S'T'RE'VE'M'LL'D", "I'm we'll they've '\u017f", "''''s"]
    yield from ["<|im_start|>user\nhi<|im_end|>", "<|im_start", "x<|endoftext|><|endoftext|>y", "<<|im_end|>|>"]
    yield from ["a" * 100_000, " " * 100_000, "\n" * 50_000, "1" * 20_000, "ab" * 50_000 + "!" * 50_000]
    yield from ["\u4e2d\u6587" * 20_000, "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 5_000]
    yield "\x00\x01\x02\x03\x04\x05\x06\x13\x14\x16\x1d\x7f\x80\x85\x9f"
    rng = random.Random(1227)
    pools = [
        "abc XYZ  \t\n\r",
        "0123456789 .,'-",
        "'sStTrReEvVmMlLdD ",
        "\u00e9\u00df\u0130\u01c5\u0345\u0301\u200b\u200d\ufeff\u180e\u2028\u3000 ",
        "\u0660\u0967\u00b2\u00bd\u2160\u3007\U0001d7ce ab",
        "<|im_start|><|endoftext|> ",
    ]
    for _ in range(20_000):
        pool = rng.choice(pools) + rng.choice(pools)
        yield "".join(rng.choice(pool) for _ in range(rng.randrange(1, 40)))
    for _ in range(5_000):
        yield "".join(rng.choice(everything) for _ in range(rng.randrange(1, 20)))


def documents(folders):
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*.jsonl")):
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    yield json.loads(line)["text"]


def compare(name, bin_dir, path, encode, texts):
    texts = list(texts)
    process = subprocess.run(
        [bin_dir + "/tokenize_lines", path],
        input="".join(json.dumps(text) + "\n" for text in texts),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    results = process.stdout.splitlines()
    if len(results) != len(texts):
        sys.exit(f"{name}: {len(results)} results for {len(texts)} texts")
    total = 0
    for text, result in zip(texts, results):
        ours, theirs = json.loads(result), encode(text)
        total += len(theirs)
        if ours != theirs:
            at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
            sys.exit(
                f"{name}: token {at} differs in {text[:200]!r}\n"
                f"  ours   {ours[max(0, at - 3):at + 5]}\n  theirs {theirs[max(0, at - 3):at + 5]}"
            )
    print(f"{name}: {len(texts)} texts, {total} tokens, all equal", flush=True)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    bin_dir, path, folders = sys.argv[1], sys.argv[2], sys.argv[3:]
    if path.endswith(".model"):
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor(model_file=path)
        compare("adversarial", bin_dir, path, processor.encode, adversarial())
        compare("documents", bin_dir, path, processor.encode, documents(folders))
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([bin_dir + "/tokenize_lines", path, "--write", folder], check=True)
        written = folder + "/tokenizer.json"
        if path.endswith(".json"):
            reference = tokenizers.Tokenizer.from_file(path)
        else:
            reference = reference_from_gguf(path)
        loaded = tokenizers.Tokenizer.from_file(written)

        def encoder(tokenizer):
            return lambda text: tokenizer.encode(text, add_special_tokens=False).ids

        compare("adversarial", bin_dir, path, encoder(reference), adversarial())
        compare("documents", bin_dir, path, encoder(reference), documents(folders))
        some = list(documents(folders))[::10]
        compare("what we wrote, read by us", bin_dir, written, encoder(reference), some)
        compare("what we wrote, read by them", bin_dir, path, encoder(loaded), some)
        llama3 = with_llama3_split(written, folder)
        other = encoder(tokenizers.Tokenizer.from_file(llama3))
        compare("LLaMA-3 split, adversarial", bin_dir, llama3, other, adversarial())
        compare("LLaMA-3 split, documents", bin_dir, llama3, other, documents(folders))


if __name__ == "__main__":
    main()
