#!/usr/bin/env python3
"""Holds scaled rotary positions to transformers: logits of random models, each kind of scaling.

  rope_oracle.py BIN_DIR

BIN_DIR holds `hf_logits`. Within the original context and beyond it. Exit status 1 at the first
difference.
"""
import subprocess
import sys
import tempfile

import torch
import transformers

CONTEXT = 64
SCALINGS = {
    "none": None,
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "llama3": {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": CONTEXT},
}


def main():
    tokens = torch.randint(0, 97, (2, 4 * CONTEXT), generator=torch.Generator().manual_seed(1))
    for name, scaling in SCALINGS.items():
        torch.manual_seed(2)
        context = CONTEXT if name == "dynamic" else 4 * CONTEXT
        config = transformers.LlamaConfig(
            vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context,
            rope_scaling=scaling, tie_word_embeddings=False, initializer_range=0.2)
        model = transformers.LlamaForCausalLM(config).eval()
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            for length in (CONTEXT // 2, 4 * CONTEXT):
                ids = tokens[:, :length].contiguous()
                with torch.no_grad():
                    expected = model(ids).logits
                output = subprocess.run([sys.argv[1] + "/hf_logits", folder, "2", str(length)],
                                        input=ids.numpy().tobytes(), stdout=subprocess.PIPE, check=True)
                got = torch.frombuffer(bytearray(output.stdout), dtype=torch.float32)
                worst = (got.view_as(expected) - expected).abs().max().item()
                print(f"{name}, {length} tokens: largest difference {worst:.2e} of logits up to "
                      f"{expected.abs().max().item():.1f}")
                if not worst < 2e-3:
                    sys.exit(1)


if __name__ == "__main__":
    main()
