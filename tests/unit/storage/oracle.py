#!/usr/bin/env python3
"""The reference implementations (packages gguf and safetensors) for tests/unit/storage.

  oracle.py dequantise IN.gguf OUT.safetensors LAYER...
      Weights in Hugging Face names and row order: everything outside the layers, and those layers.
  oracle.py rewrite IN.safetensors OUT.safetensors
      Reads a file, F32 tensors only, and writes what it read.
  oracle.py goldens
      Prints the constants of ggml_types_test.cc.
"""

import sys

import numpy as np

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OTHER_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def reverse_permute(weights, num_heads):
    """As transformers' loader of GGUF files (LlamaTensorProcessor)."""
    half = weights.shape[0] // num_heads // 2
    return weights.reshape(num_heads, half, 2, -1).swapaxes(1, 2).reshape(weights.shape)


def dequantise(source, target, layers):
    import gguf
    from safetensors.numpy import save_file

    reader = gguf.GGUFReader(source)
    heads = {
        "attn_q": int(reader.get_field("llama.attention.head_count").contents()),
        "attn_k": int(reader.get_field("llama.attention.head_count_kv").contents()),
    }
    result = {}
    for tensor in reader.tensors:
        if tensor.name in OTHER_NAMES:
            name, part = OTHER_NAMES[tensor.name], None
        else:
            _, layer, part, _ = tensor.name.split(".")
            if layer not in layers:
                continue
            name = f"model.layers.{layer}.{LAYER_NAMES[part]}.weight"
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if part in heads:
            values = reverse_permute(values, heads[part])
        result[name] = np.ascontiguousarray(values, dtype=np.float32)
    save_file(result, target)


def rewrite(source, target):
    from safetensors.numpy import load_file, save_file

    save_file(load_file(source), target)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def goldens():
    import gguf

    # Byte offsets of the fp16 scales in a block: they get values that are neither huge nor NaN.
    scales = {
        "F16": [], "BF16": [], "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0],
        "Q5_1": [0, 2], "Q4_K": [0, 2], "Q6_K": [208],
    }  # fmt: skip
    for name, offsets in scales.items():
        qtype = gguf.GGMLQuantizationType[name]
        _, block_bytes = gguf.GGML_QUANT_SIZES[qtype]
        num_blocks = 16 if block_bytes == 2 else 2
        data = np.array(
            [[(37 * i + 101 * b + 11) % 256 for i in range(block_bytes)] for b in range(num_blocks)],
            dtype=np.uint8,
        )
        for b in range(num_blocks):
            for k, offset in enumerate(offsets):
                # The second block has a subnormal scale.
                half = 0x2E66 + 0x111 * k if b == 0 else 0x8123 + k
                data[b, offset], data[b, offset + 1] = half & 255, half >> 8
        values = gguf.quants.dequantize(data.reshape(1, -1), qtype).ravel()
        picked = [0, 1, len(values) // 2 - 1, len(values) - 1]
        print(
            f"{{GgmlType::k{name.replace('_K', 'K').replace('BF', 'Bf')}, {num_blocks}, "
            f"0x{crc32c(values.astype('<f4').tobytes()):08X}, "
            f"{{{', '.join(float(values[i]).hex() + 'f' for i in picked)}}}}},"
        )


def main():
    command, *arguments = sys.argv[1:]
    if command == "dequantise":
        dequantise(arguments[0], arguments[1], arguments[2:])
    elif command == "rewrite":
        rewrite(*arguments)
    elif command == "goldens":
        goldens()
    else:
        sys.exit(__doc__)


main()
