"""Native exports of a constructed SmolLM2 in transformers: the same logits and the same words.

native_export_oracle.py BIN_DIR MODEL
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

# "The river rises in the mountains and runs for two hundred miles to the sea."
PROMPT = [504, 4626, 13685, 281, 260, 8718, 284, 7313, 327, 827, 3822, 4158, 288, 260, 3426, 30]
NEW_TOKENS, TOLERANCE = 64, 2e-3
CLASSES = {"mixtral": "MixtralForCausalLM", "qwen2-moe": "Qwen2MoeForCausalLM"}


def compare(program, folder, expected_class):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "native", dtype=torch.float32)
    assert type(model).__name__ == expected_class, type(model)
    with torch.no_grad():
        words = model.generate(torch.tensor([PROMPT]), max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS,
                               do_sample=False, pad_token_id=0)
        theirs = model(words).logits[0].numpy()
    tokens = words[0].tolist()
    out = subprocess.run([program, "logits", folder / "ours", *map(str, tokens)], check=True,
                         capture_output=True).stdout
    ours = np.frombuffer(out, np.float32).reshape(len(tokens), -1)
    difference = float(np.abs(ours - theirs).max())
    # Each word that transformers chose is our best one as well, after the same words: our own
    # greedy continuation is the same. End-of-text is out, as min_new_tokens has it.
    choices = ours[len(PROMPT) - 1:-1].copy()
    choices[:, model.generation_config.eos_token_id] = -np.inf
    same = int((choices.argmax(1) == np.array(tokens[len(PROMPT):])).sum())
    print(f"{folder.name}: {expected_class}, largest difference of {ours.size} logits {difference:.2e}, "
          f"{same} of {NEW_TOKENS} words the same")
    return difference <= TOLERANCE and same == NEW_TOKENS


def main(bin_dir, model):
    torch.set_num_threads(1)
    program = pathlib.Path(bin_dir) / "native_export_oracle"
    with tempfile.TemporaryDirectory() as root:
        subprocess.run([program, "make", model, root], check=True)
        good = [compare(program, pathlib.Path(root) / name, cls) for name, cls in CLASSES.items()]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
