"""A client in timm alone: `python timm_alone.py BUNDLE street.jpg ...` prints one JSON line an image."""

import json
import sys

import timm
import torch
from PIL import Image


def main(bundle, *files):
    model = timm.create_model(f"local-dir:{bundle}", pretrained=True).eval()
    assert list(model.pretrained_cfg["label_names"]) == ["None", "Roadwork"]
    settings = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg)
    transform = timm.data.create_transform(**settings, is_training=False)
    for file in files:
        with torch.inference_mode():
            logits = model(transform(Image.open(file).convert("RGB"))[None])[0]
        probability = logits.softmax(dim=0)[1].item()
        decision = "roadwork" if probability > 0.5 else "none"
        print(json.dumps({"logits": logits.tolist(), "probability": probability, "decision": decision}))


if __name__ == "__main__":
    main(*sys.argv[1:])
