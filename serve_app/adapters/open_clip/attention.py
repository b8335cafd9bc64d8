"""Self-attention without the copies that torch's own makes, and whose products are those of linear layers.

Without a mask, `nn.MultiheadAttention` has a fast way of its own. With one, it turns [batch, tokens, width] into [tokens, batch,
width] before its first product. That view is not contiguous, so torch multiplies token by token, with a copy of the weights for
each: three quarters of the time of a text tower in bfloat16. The same sums in the order in which the rows lie need no copy.

On a CPU the fast way is left as well: it is no faster, and its weights cannot be packed.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention


class ContiguousAttention(torch.nn.MultiheadAttention):
    """torch's attention, for inference; what is not self-attention with one mask for all heads goes its old way."""

    in_projection: torch.nn.Linear  # its weights are `in_proj_weight` and `in_proj_bias`

    def forward(  # type: ignore[override] # open_clip names all but the first three
        self, query: Any, key: Any, value: Any, *, attn_mask: Any = None, **options: Any
    ) -> tuple[Any, Any]:
        """Features [batch, tokens, width], and no weights.

        `attn_mask`: added to the scores, [tokens, tokens] or [batch, 1, tokens, tokens].
        """
        is_self_attention = query is key is value and options == {"need_weights": False}
        if not is_self_attention or not _is_ours(query, attn_mask):
            return super().forward(query, key, value, attn_mask=attn_mask, **options)
        return self.out_proj(self.attended(query, attn_mask)), None

    def attended(self, features: Any, attn_mask: Any, first: int | None = None) -> Any:
        """What each token has from those that it attends to, before the last product: [batch, tokens, width], as `features` are.

        `first`: only of so many tokens at the beginning.
        """
        batch, tokens, _ = features.shape
        projected = self.in_projection(features)
        # [batch, tokens, 3, heads, width of a head] to three of [batch, heads, tokens, width of a head].
        q, k, v = projected.view(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        return scaled_dot_product_attention(q[:, :, :first], k, v, attn_mask).transpose(1, 2).flatten(2)


def _is_ours(query: Any, mask: Any) -> bool:
    if mask is None:
        return bool(query.device.type == "cpu")
    return bool(mask.dim() in (2, 4) and mask.dtype == query.dtype)


def use_contiguous_attention(module: Any) -> None:
    """Let the attention of a tower in evaluation mode work without copies. Its weights stay what they are."""
    for part in list(module.modules()):
        if (
            type(part) is torch.nn.MultiheadAttention
            and part.batch_first
            and part.in_proj_weight is not None  # else queries, keys and values have widths of their own
            and part.bias_k is None
            and not part.add_zero_attn
        ):
            part.__class__ = ContiguousAttention
            width_out, width_in = part.in_proj_weight.shape
            part.in_projection = torch.nn.Linear(width_in, width_out, device="meta")
            part.in_projection.weight, part.in_projection.bias = part.in_proj_weight, part.in_proj_bias
