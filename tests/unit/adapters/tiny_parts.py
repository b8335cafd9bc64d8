"""Very small parts for tiny models: timm's own architectures made narrow, text towers of `transformers`, and tokenisers.

Importing this file registers the architectures with timm under the names `tiny_*`. Everything is made on the spot.
"""

import json
from pathlib import Path
from typing import Any

from timm.models import convnext, eva, fastvit, register_model, vision_transformer, vision_transformer_hybrid
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


@register_model
def tiny_siglip(pretrained: bool = False, **changes: Any) -> nn.Module:
    """Pools by attention, has no class token."""
    return vision_transformer.vit_base_patch16_siglip_224(pretrained, **{**VIT, **changes})


@register_model
def tiny_eva02(pretrained: bool = False, **changes: Any) -> nn.Module:
    """Rotary positions, whose table is a buffer that no checkpoint holds."""
    return eva.eva02_base_patch16_clip_224(pretrained, **{**VIT, **changes})


@register_model
def tiny_pe_core(pretrained: bool = False, **changes: Any) -> nn.Module:
    return eva.vit_pe_core_tiny_patch16_384(pretrained, **{**VIT, "attn_pool_num_heads": 2, **changes})


@register_model
def tiny_convnext(pretrained: bool = False, **changes: Any) -> nn.Module:
    return convnext.convnext_base(pretrained, **{"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), **changes})


@register_model
def tiny_fastvit(pretrained: bool = False, **changes: Any) -> nn.Module:
    """The convolutional MobileCLIP2, with the running statistics of its batch norms."""
    small = {"layers": (1, 1, 1, 1), "embed_dims": (32, 32, 32, 32)}
    return fastvit.fastvit_mci0(pretrained, **{**small, **changes})


@register_model
def tiny_mci(pretrained: bool = False, **changes: Any) -> nn.Module:
    """The MobileCLIP2 of a ViT behind a convolutional stem."""
    stem = vision_transformer_hybrid.ConvStem(
        channels=(8, 8, 32), stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0, act_layer=nn.GELU
    )
    small = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, "no_embed_class": True}
    return vision_transformer_hybrid._create_vision_transformer_hybrid(
        "vit_base_mci_224", stem, embed_args={"proj": False}, pretrained=pretrained, **{**small, **changes}
    )


# What `config.json` of a text tower holds: what OpenCLIP would else ask the hub for.
HF_TEXT_CONFIGS: dict[str, dict[str, Any]] = {
    "xlm-roberta": {
        "model_type": "xlm-roberta",
        "vocab_size": 300,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 24,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    },
    "bert": {
        "model_type": "bert",
        "vocab_size": 300,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 24,
        "pad_token_id": 0,
    },
    "m2m_100": {  # NLLB
        "model_type": "m2m_100",
        "vocab_size": 300,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 24,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "scale_embedding": True,
    },
    "mt5": {
        "model_type": "mt5",
        "vocab_size": 300,
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 48,
        "num_layers": 2,
        "num_decoder_layers": 1,
        "num_heads": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
    },
}

KNOWN = "a red blue two boat boats tree trees in the snow picture of very long day yellow night x and 1 2 3"
WORDS = KNOWN.split()
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZäöüÜß船夜赤0123456789!?.,;:&<>/|-_'\"()"


def save_unigram(folder: Path, kind: str) -> None:
    """A SentencePiece-like tokeniser as `tokenizer.json`. kind: "siglip" (T5's), "mt5", "siglip2", ...; see the keys."""
    special, ending, config = {
        "siglip": (["<pad>", "</s>", "<unk>"], "$A </s>", {"tokenizer_class": "T5TokenizerFast", "pad_token": "</s>"}),
        "mt5": (["<pad>", "</s>", "<unk>"], "$A </s>", {"tokenizer_class": "T5TokenizerFast", "pad_token": "<pad>"}),
        "siglip2": (
            ["<pad>", "<eos>", "<bos>", "<unk>"],
            "$A <eos>",
            {
                "tokenizer_class": "GemmaTokenizerFast",
                "pad_token": "<pad>",
                "eos_token": "<eos>",
                "bos_token": "<bos>",
                "add_bos_token": False,
                "add_eos_token": True,
                "padding_side": "right",
            },
        ),
        "xlm-roberta": (
            ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            "<s> $A </s>",
            {
                "tokenizer_class": "XLMRobertaTokenizerFast",
                "pad_token": "<pad>",
                "bos_token": "<s>",
                "cls_token": "<s>",
                "sep_token": "</s>",
                "mask_token": "<mask>",
            },
        ),
        "nllb": (
            ["<s>", "<pad>", "</s>", "<unk>", "eng_Latn", "<mask>"],
            "eng_Latn $A </s>",
            {
                "tokenizer_class": "NllbTokenizerFast",
                "pad_token": "<pad>",
                "bos_token": "<s>",
                "cls_token": "<s>",
                "sep_token": "</s>",
                "mask_token": "<mask>",
                "src_lang": "eng_Latn",
            },
        ),
    }[kind]
    pieces = [*special, "▁", *(f"▁{word}" for word in WORDS), *WORDS, *LETTERS]
    pieces = list(dict.fromkeys(pieces))
    tokenizer = Tokenizer(
        models.Unigram([(piece, -float(rank) / 10) for rank, piece in enumerate(pieces)], special.index("<unk>"), False)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=ending,
        special_tokens=[(each, pieces.index(each)) for each in ending.split() if each != "$A"],
    )
    _save(tokenizer, folder, {"unk_token": "<unk>", "eos_token": "</s>", **config})


def save_wordpiece(folder: Path) -> None:
    """BERT's tokeniser as `tokenizer.json`."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = list(dict.fromkeys([*special, *WORDS, *LETTERS.lower(), *(f"##{letter}" for letter in LETTERS.lower())]))
    tokenizer = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "bos": "[CLS]", "eos": "[SEP]"}
    _save(
        tokenizer,
        folder,
        {"tokenizer_class": "BertTokenizer", **{f"{name}_token": token for name, token in names.items()}},
    )


def _save(tokenizer: Tokenizer, folder: Path, config: dict[str, Any]) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
