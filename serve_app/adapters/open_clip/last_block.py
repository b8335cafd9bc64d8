"""The last block of a transformer, for the tokens that are read of it, and for no others.

A picture is read at its class token, a text at its end token. The last block needs the keys and values of all tokens; but what
its other products, nine of twelve, give for the others is thrown away. Left out on a CPU, the vectors keep their bits.
"""

from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

from serve_app.adapters.open_clip.attention import ContiguousAttention, use_contiguous_attention


class ClassTokenBlock(ResidualAttentionBlock):  # type: ignore[misc] # open_clip has no types
    """The last block of a tower that is read at its first token."""

    def forward(self, q_x: Any, k_x: Any = None, v_x: Any = None, attn_mask: Any = None) -> Any:  # noqa: ARG002 - no masks
        """Features [batch, 1, width] of the first of the tokens [batch, tokens, width]."""
        return _finished(self, q_x[:, :1], self.attn.attended(self.ln_1(q_x), None, first=1))


def can_read(block: Any) -> bool:
    """Whether the functions of this module know the block."""
    return (
        type(block) is ResidualAttentionBlock
        and isinstance(block.attn, ContiguousAttention)
        and not hasattr(block, "ln_1_kv")
    )


def use_class_token_block(module: Any) -> None:
    """Let an image tower of OpenCLIP's own that is read at its class token compute no more of its last block."""
    if isinstance(module, VisionTransformer) and module.pool_type == "tok" and module.attn_pool is None:
        last = module.transformer.resblocks[-1]
        use_contiguous_attention(last)
        if can_read(last):
            last.__class__ = ClassTokenBlock


def read_at(block: Any, features: Any, tokens: torch.Tensor, attn_mask: Any) -> Any:
    """What a block gives of features [sequences, width of a sequence, width] at some of all `tokens`, [n, width]."""
    attended = block.attn.attended(block.ln_1(features), attn_mask)
    return _finished(block, features.flatten(0, 1)[tokens], attended.flatten(0, 1)[tokens])


def _finished(block: Any, features: Any, attended: Any) -> Any:
    features = features + block.ls_1(block.attn.out_proj(attended))
    return features + block.ls_2(block.mlp(block.ln_2(features)))
