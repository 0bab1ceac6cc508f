#!/usr/bin/env python3
"""Holds conversations as tokens to two independent ways of making them.

  conversation_oracle.py BIN_DIR GGUF [SENTENCEPIECE_MODEL]

BIN_DIR holds `encode_conversations`. With the GGUF file: its own chat template, rendered by Jinja,
tokenised as one text by `tokenizers`; a token counts where its characters belong to an answer or the
end of one. With a SentencePiece model: the Vicuna template as the published code builds text and
labels, counting the tokens of prefixes. Exit status 1 at the first difference.
"""
import json
import pathlib
import random
import subprocess
import sys

import jinja2
import sentencepiece

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from tokenizer_oracle import reference_from_gguf  # noqa: E402

WORDS = ("the cat", "sat", "on a mat.", "2 + 2 = 4", "\u4f60\u597d", "caf\u00e9", "int main() {}", "x", "A:",
         "USER", "line\nbreak", "\ttab", "a  b", "#1", "\U0001f600", "end.")


def conversations(count=500, seed=1227):
    rng = random.Random(seed)

    def text(least=1):
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(least, 8)))
    for _ in range(count):
        messages = [{"role": "system", "content": text()}] if rng.random() < 0.5 else []
        for _ in range(rng.randint(1, 4)):
            messages.append({"role": "user", "content": text()})
            messages.append({"role": "assistant", "content": text()})
        yield messages


def ours(bin_dir, tokenizer, template, samples):
    process = subprocess.run(
        [bin_dir + "/encode_conversations", tokenizer, template],
        input="".join(json.dumps({"messages": messages}) + "\n" for messages in samples),
        stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in process.stdout.splitlines()]


def from_chat_template(path, samples):
    """(ids, counts) by Jinja and offsets of characters."""
    import gguf
    source = gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents()
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(source)
    tokenizer = reference_from_gguf(path)
    for messages in samples:
        text = template.render(messages=messages, add_generation_prompt=False)
        counts, at = [False] * len(text), 0
        for message in messages:
            begin = text.index("<|im_start|>" + message["role"] + "\n" + message["content"], at)
            begin += len("<|im_start|>" + message["role"] + "\n")
            at = begin + len(message["content"])
            if message["role"] == "assistant":
                end = at + len("<|im_end|>")
                counts[begin:end] = [True] * (end - begin)
        encoding = tokenizer.encode(text)
        yield encoding.ids, [counts[begin] for begin, _ in encoding.offsets]


def from_published_code(path, samples):
    """(ids, counts) of Vicuna 1.1 as the published SFT code has them."""
    model = sentencepiece.SentencePieceProcessor(model_file=path)
    bos, eos = model.bos_id(), model.eos_id()

    def tokenise(text):
        # What follows an end-of-sequence token begins like a text of its own.
        ids = [bos]
        pieces = text.split("</s>")
        for i, piece in enumerate(pieces):
            ids += model.encode(piece)
            if i + 1 < len(pieces):
                ids.append(eos)
        return ids

    for messages in samples:
        system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        text = system + " "
        for message in messages:
            if message["role"] == "user":
                text += "USER: " + message["content"] + " "
            elif message["role"] == "assistant":
                text += "ASSISTANT: " + message["content"] + "</s>"
        ids = tokenise(text)
        counts = [False] * len(ids)
        position = 1  # the beginning-of-sequence token
        for turn in text.split("</s>")[:-1]:
            length = len(tokenise(turn)) - 1 + 1
            prefix = turn.split(" ASSISTANT: ")[0] + " ASSISTANT: "
            masked = len(tokenise(prefix)) - 1 - 1
            counts[position + masked:position + length] = [True] * (length - masked)
            position += length
        assert position == len(ids), "the published code would leave the sample out"
        yield ids, counts


def compare(name, samples, got, expected):
    tokens = 0
    for messages, encoded, (ids, counts) in zip(samples, got, expected, strict=True):
        if encoded.get("tokens") != list(ids) or encoded["is_target"] != counts:
            sys.exit(f"{name}: {json.dumps(messages)}\n ours     {encoded}\n expected {ids} {counts}")
        tokens += len(ids)
    print(f"{name}: {len(samples)} conversations, {tokens} tokens, all ids and targets equal")


def main():
    bin_dir, model = sys.argv[1:3]
    samples = list(conversations())
    compare("chat template of the GGUF file", samples, ours(bin_dir, model, "tokenizer", samples),
            from_chat_template(model, samples))
    if len(sys.argv) > 3:
        # The published code tells turns apart by these words in the text.
        samples = [s for s in samples if not any("\t" == m["content"][0] for m in s)]
        compare("vicuna", samples, ours(bin_dir, sys.argv[3], "vicuna", samples),
                from_published_code(sys.argv[3], samples))


if __name__ == "__main__":
    main()
