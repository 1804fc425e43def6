"""The losses of self-supervision, as pure functions of embeddings, and their gradient over a batch in parts.

Two views of each image go in, row i of one beside row i of the other; no label does.

- `contrastive_loss` is NT-Xent (SimCLR, Chen et al., 2002.05709): each view has to find the other view of
  its image among all other views of the batch, by cosine similarity over a temperature.

The contrastive loss does not add up over parts of a batch: a part on its own lacks the others' negatives.
`backward_in_parts` therefore takes the way of GradCache (Gao et al., 2101.06983): embeddings of all parts
without a graph, the gradient of the loss by the embeddings, then each part once more with its share of that
gradient. Memory is that of one part, and the gradient that of the whole batch, up to rounding. That holds
for models whose rows do not see each other (no batch normalisation) and that draw the same in both passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable


def contrastive_loss(first: torch.Tensor, second: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Return NT-Xent in nats: a scalar, the mean over the 2 * N views.

    Args:
        first: Embeddings [N, D] of one view of each image, of any length.
        second: Those of the other view, row by row.
        temperature: Cosine similarities are divided by it.
    """
    views = functional.normalize(torch.cat([first, second]).float(), dim=1)
    rows = torch.arange(len(views), device=views.device)
    similarity = (views @ views.T / temperature).fill_diagonal_(-torch.inf)  # no view is its own negative
    return functional.cross_entropy(similarity, (rows + len(first)) % len(views))


def backward_in_parts(
    encode: Callable[[int], torch.Tensor], parts: int, loss_of: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Add the gradient of the whole batch's loss to the model, a part at a time; return the loss.

    Args:
        encode: Returns the embeddings [n, D] of part i; called twice a part, and has to draw the same.
        parts: How many parts there are.
        loss_of: The loss of the embeddings of all parts, one part behind the other.
    """
    if parts == 1:
        loss = loss_of(encode(0))
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no return type
        return loss.detach()
    with torch.no_grad():
        encoded = [encode(part) for part in range(parts)]
    whole = torch.cat(encoded).requires_grad_()
    loss = loss_of(whole)
    (gradient,) = torch.autograd.grad(loss, whole)
    for part, share in enumerate(torch.split(gradient, [len(embeddings) for embeddings in encoded])):
        torch.autograd.backward(encode(part), share)
    return loss.detach()
