"""The result of gpu_step (standard input) as a table, and its goals as the last line."""
import json
import sys

result = json.loads(sys.stdin.read())
for name, value in result.items():
    print(f"{name:20} {value}")
whole = result["layers"] == result["layers_of_model"]
if not whole:
    print(f"not all {result['layers_of_model']} layers fit: no goal is measured")
speed = result["tokens_per_s"] if whole else None
state = result["state_gb_of_model"]
print(json.dumps({
    "bench": "gpu-step",
    "goals": [{"name": "tokens_per_second", "value": speed, "goal": 20000,
               "met": whole and speed >= 20000},
              {"name": "training_state_gb", "value": state, "goal": 80, "met": state <= 80}],
    "machine": {"gpu": result["gpu"]}}))
