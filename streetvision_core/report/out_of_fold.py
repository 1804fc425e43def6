"""A cross-validation by the attributes of its images: the figure inside each source, city or camera.

Where an attribute predicts the label, the figure over all images profits from it, and those inside its
values do not.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.report.evaluation import attributes_of
from streetvision_core.report.report import MOST_SLICES

if TYPE_CHECKING:
    from streetvision_core.data import ImageIndex
    from streetvision_core.training.out_of_fold.record import CrossValidation


def attribute_rows(result: CrossValidation, index: ImageIndex) -> list[dict[str, object]]:
    """Return one row a value of each attribute: its images, roadwork and groups, the MCC and its interval.

    An attribute of more than 20 values is left out.
    """
    known = {image.name: image for image in index.pictures}
    attributes = attributes_of([known[name] for name in result.ids])
    groups, rows = np.asarray(result.groups), []
    for name, values in attributes.items():
        column = np.asarray(values, dtype=str)
        chosen = np.unique(column).tolist()
        for value in chosen if len(chosen) <= MOST_SLICES else ():
            members = column == value
            rows.append(
                {
                    "attribute": name,
                    "value": value,
                    "images": int(members.sum()),
                    "roadwork": int(result.labels[members].sum()),
                    "groups": np.unique(groups[members]).size,
                    **asdict(result.figure(result.logits, members=members)),
                }
            )
    return rows
