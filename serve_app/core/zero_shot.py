"""Zero-shot classification as OpenCLIP does it (Radford et al. 2021, arXiv:2103.00020, section 3.1). Knows no encoder.

A label is filled into each template; the mean of these texts' unit vectors, at length 1 again, is the label's prototype. SigLIP
judges each pair of picture and label by itself (Zhai et al. 2023, arXiv:2303.15343), CLIP the labels against each other.
"""

from collections.abc import Sequence

import numpy as np

from serve_app.core.vectors import unit
from serve_app.types import FloatMatrix

SLOT = "{}"


def prompts_of(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every template of the first label, then of the second, and so on; `{}` is the label's place."""
    return [template.replace(SLOT, label) for label in labels for template in templates]


def prototypes(vectors: FloatMatrix, templates: int) -> FloatMatrix:
    """Unit vectors of the labels, [labels, d], from those of their prompts, [labels * templates, d].

    Raises InvalidVector if the prompts of a label cancel out.
    """
    # float64: with 80 templates a float32 sum drifts.
    means = vectors.reshape(-1, templates, vectors.shape[1]).mean(axis=1, dtype=np.float64)
    return np.stack([unit(mean) for mean in means])


def probabilities(
    pictures: FloatMatrix, labels: FloatMatrix, logit_scale: float, logit_bias: float | None
) -> FloatMatrix:
    """Of each picture [n, d] and label [m, d], shape [n, m].

    Softmax of `logit_scale` * cosine over the labels, so that rows sum to 1; with a `logit_bias` (SigLIP) the sigmoid of
    `logit_scale` * cosine + `logit_bias`, where each label stands by itself.
    """
    logits = logit_scale * (pictures.astype(np.float64) @ labels.astype(np.float64).T)
    if logit_bias is not None:
        # The sigmoid by tanh, which never overflows.
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * (logits + logit_bias))), np.float32)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
