"""A client in transformers, as a StreetVision miner calls it: the score of the label Roadwork, held to 0.5.

`python pipeline.py BUNDLE street.jpg ...` prints one JSON line an image.
"""

import json
import sys

from transformers import pipeline


def main(bundle, *files):
    classify = pipeline("image-classification", model=bundle, device="cpu")
    for file in files:
        scores = {answer["label"]: answer["score"] for answer in classify(file)}
        assert scores.keys() == {"None", "Roadwork"}
        decision = "roadwork" if scores["Roadwork"] > 0.5 else "none"
        print(json.dumps({"probability": scores["Roadwork"], "decision": decision}))


if __name__ == "__main__":
    main(*sys.argv[1:])
