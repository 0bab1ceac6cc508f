"""A tiny LLaMA with a tokenizer, and a tiny corpus, made on the spot: real formats, no downloads."""
import gzip
import json
import pathlib
import random
import struct

DOMAINS = ["commoncrawl", "c4", "github", "wikipedia", "books", "arxiv", "stackexchange"]
HIDDEN, WIDTH, LAYERS, HEADS, KV_HEADS, VOCAB = 64, 128, 2, 4, 2, 320


def write_safetensors(path, tensors):
    """{name: (shape, floats)} as F32."""
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes, in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for b in range(256):
        if b in printable:
            table[b] = chr(b)
        else:
            table[b] = chr(256 + extra)
            extra += 1
    return [table[b] for b in range(256)]


def write_tokenizer(folder):
    alphabet = byte_alphabet()
    vocab = {token: i for i, token in enumerate(alphabet)}
    merges = []
    space = alphabet[32]
    for pair in ["t h", "i n", "e r", "a n", "o n", "r e", "th e", "o r", "e n", "in g", f"{space} a",
                 f"{space} the", "e s", "a t", "s t"]:
        left, right = pair.split(" ")
        merges.append(f"{left} {right}")
        vocab[left + right] = len(vocab)
    while len(vocab) < VOCAB - 1:
        vocab[f"<unused{len(vocab)}>"] = len(vocab)
    vocab["<|end|>"] = len(vocab)
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": VOCAB - 1, "content": "<|end|>", "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
                  "merges": merges},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|end|>", "eos_token": "<|end|>",
         "add_bos_token": False, "model_max_length": 256}))


def write_model(folder, seed=1):
    """A dense LLaMA of about 150,000 parameters, as a Hugging Face folder."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    head = HIDDEN // HEADS

    def normal(*shape):
        count = 1
        for n in shape:
            count *= n
        return list(shape), [rng.gauss(0, 0.05) for _ in range(count)]

    ones = [HIDDEN], [1.0] * HIDDEN
    tensors = {"model.embed_tokens.weight": normal(VOCAB, HIDDEN), "model.norm.weight": ones}
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        tensors |= {
            p + "input_layernorm.weight": ones, p + "post_attention_layernorm.weight": ones,
            p + "self_attn.q_proj.weight": normal(HEADS * head, HIDDEN),
            p + "self_attn.k_proj.weight": normal(KV_HEADS * head, HIDDEN),
            p + "self_attn.v_proj.weight": normal(KV_HEADS * head, HIDDEN),
            p + "self_attn.o_proj.weight": normal(HIDDEN, HEADS * head),
            p + "mlp.gate_proj.weight": normal(WIDTH, HIDDEN),
            p + "mlp.up_proj.weight": normal(WIDTH, HIDDEN),
            p + "mlp.down_proj.weight": normal(HIDDEN, WIDTH),
        }
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB,
        "hidden_size": HIDDEN, "intermediate_size": WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "torch_dtype": "float32", "bos_token_id": VOCAB - 1,
        "eos_token_id": VOCAB - 1}, indent=1))
    write_tokenizer(folder)
    return folder


def write_corpus(folder, documents=12, seed=2):
    """Seven domains of made-up text that differ in their words; C4's as compressed JSON lines."""
    folder = pathlib.Path(folder)
    rng = random.Random(seed)
    for domain in DOMAINS:
        words = ["".join(rng.choice("etaoinshrdlu") for _ in range(rng.randint(2, 8))) for _ in range(50)]
        (folder / domain).mkdir(parents=True, exist_ok=True)
        texts = [f"The {domain} text {d}.\n{' '.join(rng.choice(words) for _ in range(120))}\n"
                 for d in range(documents)]
        if domain == "c4":
            with gzip.open(folder / domain / "texts.jsonl.gz", "wt") as out:
                out.writelines(json.dumps({"text": text}) + "\n" for text in texts)
            continue
        for d, text in enumerate(texts):
            (folder / domain / f"{d:03}.txt").write_text(text)
    return folder


def pipeline(model, corpus, *, steps=8, interval=3, slots=1, dtype="fp32", name="tiny", num_experts=4,
             top_k=2, global_batch=4, micro_batch=2, keep=2):
    domains = "\n".join(f"        - {{name: {d}, paths: [{corpus}/{d}]}}" for d in DOMAINS)
    return f"""pipeline: {name}
jobs:
  - name: corpus
    prepare:
      tokenizer: {{path: {model}}}
      heldout_fraction: 0.2
      domains:
{domains}
  - name: construct
    construct:
      model: {{path: {model}}}
      method: independent-random
      num_experts: {num_experts}
      top_k: {top_k}
  - name: train
    resources: {{slots: {slots}}}
    train:
      model: {{artefact: construct}}
      dataset: {{artefact: corpus}}
      steps: {steps}
      sequence_length: 32
      global_batch_samples: {global_batch}
      micro_batch_samples: {micro_batch}
      compute_dtype: {dtype}
      optimizer: {{learning_rate: 0.002, warmup_steps: 2}}
      checkpoint: {{interval_steps: {interval}, keep: {keep}}}
  - name: evaluate
    evaluate:
      dataset: {{artefact: corpus}}
      sequence_length: 32
      compute_dtype: fp32
      models:
        - {{label: dense, model: {{path: {model}}}}}
        - {{label: constructed, model: {{artefact: construct}}}}
        - {{label: trained, model: {{artefact: train}}}}
  - name: export
    export:
      model: {{artefact: train}}
      dtype: fp32
"""
