"""Write tiny sentence-transformers directories and the vectors that sentence-transformers gives.

    python make_directories.py OUT --corpus kjv.txt [--seed N] [--only NAME ...]

Each directory is a whole model as people have it on disk (config, tokenizer, weights, modules), only
small: random weights, some 400 tokens, 3 layers, about 150 KB. Beside each directory OUT/NAME lies what
sentence-transformers makes of it on a CPU in float32, one text at a time:

    OUT/texts.json   the texts
    OUT/pairs.json   the pairs of texts, for cross-encoders
    OUT/NAME.npz     "vectors"  float32 [texts, dim]: SentenceTransformer(OUT/NAME).encode(texts)
                     or "scores" float32 [pairs] or [pairs, labels]: CrossEncoder(OUT/NAME).predict(pairs)
                        and "logits", the same before the activation
                     or "sparse" float32 [texts, tokens]: SparseEncoder(OUT/NAME).encode(texts), dense
    OUT/index.json   of each NAME: its kind (vectors, scores, sparse), and what it is, in words

A directory is written in one of two forms: as the installed sentence-transformers saves it ("new"), or
as nearly everything on the hub was saved by its versions 2 to 5 ("old": one true or false for each
pooling, module types sentence_transformers.models.*, max_seq_length in sentence_bert_config.json, no folder
for Normalize, vocab.txt, settings of transformers 4). Every rewriting is checked: the rewritten
directory is loaded by sentence-transformers again and must give the vectors that it gave before.

It needs torch 2.13.0, transformers 5.24.0 and sentence-transformers 6.2.0. The random numbers depend
on their versions, so the output is kept and not made again. The corpus was 1,500 lines of the King James Bible.
"""

import argparse
import base64
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
warnings.simplefilter("ignore")

import numpy as np
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from sentence_transformers.sparse_encoder.modules import SpladePooling
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

hf.logging.set_verbosity_error()
hf.utils.logging.disable_progress_bar()

TEXTS = [
    "And the evening and the morning were the first day.",
    "Where is the road to the old harbour, and who keeps the light?",
    "a",
    "?!... -- ;",
    "Crème brûlée, Ærøskøbing, Ångström; Größe und Süßigkeiten",
    "Ο ΣΟΦΟΣ ΚΑΙ Ο ΜΕΓΑΣ ΠΟΤΑΜΟΣ",
    "日本語の文章 and 中文句子 in one line",
    "Добрый день, как дела?",
    "ice cream \U0001f366 and a flag \U0001f1eb\U0001f1ee and ＦＵＬＬ　ｗｉｄｔｈ ﬁne ½",
    "  two  leading spaces,   three inside and one behind ",
    "a line\nand another\twith a tab\r\n",
    "zero\x00byte, bell\x07, soft\u00adhyphen, wide\u200bspace, lost\ufffdletter",
    "a literal [SEP] and a literal [CLS] in the text",
    "<s> these are marks </s> of others <pad>",
    "first half ||| second half",
    "a|||b and [Q] and don't 3.14159 1,000,000 AT&T",
    "[Q] the heaven and the earth",
    "In the beginning was the word and the word went on and on. " * 9,
    "x" * 130,
    "ΌΣΟΣ ΣΑΣ Σ σς İstanbul ǅ ß ẞ a\u0301 e\u0308 x\u0327",
    "   ",
    "\u00ad",
    "[CLS]",
    "</s></s> <mask> x<mask>y [MASK] <unk> [UNK]",
    "<pad><pad> in the beginning [PAD]",
    "\u2018quotes\u2019 \u201cdouble\u201d \u2014 dash\u2026 €100 £5 ``quoted'' and 'single'",
    "العربية هي لغة हिन्दी ภาษาไทย 한국어 텍스트 \U0001f469\u200d\U0001f469\u200d\U0001f467",
    "tab\tnbsp\u00a0thin\u2009zero\u200bjoin\u2060end\u2028line \ufeffbom",
    "word " * 300,
    "日本" * 200,
    "x" * 99 + " " + "y" * 101,
    "a ||| b ||| c [Q][Q] x [Q]y",
    "don't won't I'm you'll 1234567890123456789012345678901234567890 a?b=c&d=e#f @user",
    "the",
    "the  the ",
]

PAIRS = [
    ("who keeps the light", "The light of the old harbour is kept by two brothers."),
    ("day", "And the evening and the morning were the first day. " * 8),
    ("In the beginning was the word and the word went on. " * 6, "Was there a word in the beginning?"),
    ("Both of these sides are too long for it. " * 5, "So both sides have to be cut somewhere. " * 5),
    ("Größe?", "日本語 [SEP] Добрый день  ||| ½"),
    ("a", "b"),
    ("", "b"),
    ("a", ""),
    ("who", "x " * 500),
    ("y " * 500, "who"),
    ("a " * 300, "b " * 301),
    ("a " * 301, "b " * 300),
    ("odd " * 45, "even " * 44),
    ("<s> ||| c", "</s> [CLS]"),
]

#: What the tokenizers learn besides the corpus, so that they know some letters beyond English
LETTERS = [
    "café crème brûlée Größe Süßigkeiten Ångström naïve Ærøskøbing señor",
    "ο σοφος και ο μεγας ποταμος λογος ΛΟΓΟΣ ΣΟΦΟΣ",
    "добрый день как дела привет мир Добрый",
    "日本語の文章 中文句子 日 本 語 中 文",
    "0 1 2 3 4 5 6 7 8 9 10 1,000,000 3.14159",
    "don't it's ?! ... -- ; : ( ) [ ] < > / | & # % ' \" = + * @",
] * 6

#: A sentencepiece character map ("precompiled_charsmap", zlib, base64) of 268 rules in the manner of nmt_nfkc:
#: control characters removed, kinds of space, full width, ligatures, fractions, accents composed. Made by
#: sentencepiece 0.2.3 (SentencePieceTrainer, normalization_rule_tsv). The one of XLM-R has 240 KB.
CHARSMAP = zlib.decompress(
    base64.b64decode(
        "eNotlgl4VNUZQM/My0RQMMWlShWVqqVqQRS1Yqm7VlRwKa5V6wIoilIXqlTQN5mELEyAQEDCIiSAJOw7BIhYb8Zgm9Zq"
        "tdVabVGsS6XqZ2u1xep5Sfly+N/c+9Z7//PfSw+gjORfnJKOI9PEp0P2h1BqzJ0A+VEQpYiLpbtU9oQexuoJUGI8SD6V"
        "jpERjcYmWS2HJm1zIg43HiFHJdHb9zVulF4ed/wMUuXQ0RYR1UC6CjKzoKgW9lsAxfXQvRm6NcABq2D/pdCzxeev89mt"
        "cKDHvQrwjV/Cwb+Bg56HQ1+BQ16Ew96Ab74Gvd+Bw3fDEXvhW+9Dn3/BkZ/A0V/CUV/Abd3gON/njjroZxw1B040bpP8"
        "0BRjOhyL8Smyo1L0t+0LOcB3H3dMivs+d9DGO1694MF9KXLG8btSPOM5y/zQgcYJK1N0GJ9LxmNiivyhMMjjxyelOMN4"
        "3o40g40XfJxmiPGifWnOMX6VnP9yiqEfpjk/aZdLkvu+n+JN4xV7IoZ3S5Nd6g/JSalcMzHiMpv2JOdughuGRFTOSpFJ"
        "xnttimON+WyK4fZ/ILneEaW9IrKZyAmWUR6PsW1BRK42It8ScZLXfJzMfcp7LY24Knm3rWnyPT1vr+d94nXG7DseOx6l"
        "zR432LYqotrrRyTXtkZcZ7xRbk7G1ntXXuP4+Y5Z56fUeco5J7fa91nXJ8Urkuucz3VJvg02T9b6PsfDHcnzP48YbRwj"
        "Y+XoZE6MW+QQjx9IzimLcOriR6RVHpV9SfvlEQd6TvD4MXlB3i4q4q18huc9Lq1yvh0j/+KyZBx1oeM9v9f2iuRd5KO6"
        "Il3xG7/0vHLHvsY5SOImY/Kw5Hpj5aoUNcn31qfY2XM/8g0p0j47mZNl5uey082Pkd7b/H+2MkOBNG09MrzkNa/I6/Jq"
        "8s4UMd04M5kzxyw+z/tLbJ5nHbtSczkn+fthts27k/dW2Er9yk5Kchjqk/fw97vGbkk+7MsoYlf+lkqSv/1sn2//Xjk5"
        "ec8MLEy+2XiYv1fSWSLi70s/+YucLJaK2CmK13eHDfKAxy/Iu3K0fCWNvX2OUb3jMXKPxCsjFtUUcV+XSnHZQ2nK29LM"
        "9nhaf1hkHWjwgkZZ7vEfbN8qQWbr/JIboHZPmg06vd7vX2S9aJDGq2CxtDg+z3luLgvbrCGt1owd1o/ttj1tnNI9Q3XP"
        "DFUpx2JgEdN6Z5jaJ8NO+1dOTFsDM5T2z5Dta//xtg+2v856Zb9DEm/Pp9nP6CfHB4jlMS6R1ld9zvVdk5h94//54ZyX"
        "+eEOc3ywWAri6vHFHGasHFVMU3mGNfUZHKY4f1sxRxhL7c9NKvZhxWT7FNPHtqde1GOjKsTnJKkgF8hF8iMZKpfJMLlC"
        "HIb4x5Lodp04ZPFP5GbJDtZVF4DcMF0+JaL85ogyqfD3ZKm6QU+vipiSuGysMeZ1e1o2YmpNRO2kNNO/iJh5f5oZE9LM"
        "mhVRJ0/IbKnfFDFH5slcWWDbfFkoT0rDeOdfFkujLHWMliRu6NpTxubX0jRZAFbo1XJZZdtKWWP/auM6C/LaT1Js8Pd6"
        "4yaTfGNtii32bb4oTYvXbJXtsk1a7d9h/07Pf9r4U8fgNrmjK6dwuYvvlEfkFzJRHkvyVH5tv/rEFeJSFU+RmiRPxeUj"
        "dumI58p8eVIWiWlAo3FJMm/SJMtltaxN7ut6lHVcSs3fnJTd6zNSPZhcX0KFVDaXUCXVLSVMkbzHNTLVvmlfRkx/p4Ta"
        "vSXMMM50bup2lzBLZssTMqehhHqZK/NkviyQJ2W9z98sz3d9W6xO8Uvyslia4tfpLC+x5Tl+WywzsUto/HdxOY0/El85"
        "/lT8jPjfooLxf8VSHicbC13gQNELku2GjrC/6AsuvVhHOEOsKZwmg+RUOUUGivnN2eKWhCHyAzlLrDWcKdYgviO6wHGi"
        "F3xb+soxYm1igFhK+J6cJCeK9Yrvij5wregGI0RPuFp0hivF/OAW0RVuEr3hRtEhrhd942LRPS4UPeR80UnOFf1juOgi"
        "l4tecqnoKJfIw/JzsfbxkDxIZ+3EMo7bIx4X8w9LOOYij4p5idsvzFHMVUZ35S0jxTzmdjGnuVXGibUV04qxYs3lbrEM"
        "cZc8IdZa3HZhDjNTZojllumyUMxlLL2Y18wTcxy3Zpjv6AKTu7zo3Erm6KzxnTUlSQDdYKroCXnRGapFf6iULWIO4pLG"
        "Rtkg5iWWZvQjqcM8LW732EFn3WabWMZxHWCZ6BVuDdExFnf5hltG9I81omtY+nHtYoXoHy4R6CJ/pHNNwW0G5j2/Fx3A"
        "LSS/E9c33hQ94M+iE/xJ9IPE7XY61xfXbWiTpIY8K25JeUZcA/mt6BZuJUlqyK9E59glOsNnoj/8Uz7tGofEKz4W103+"
        "J/rEPtEt/iN6httPXF/5m+gme0RPeUt0lr+KjvIP0Vc+FN3lA9Fj3qNTkr4Kc6zyHK9I/ZTiBAU5SVn6K86AAQNUaKA6"
        "nvJWtuzUzv9PU9BBDOo8Ok1xz1DiMxXyLOUcoqhnK+25CnC+MlyoGBcrySUm/NDkTy5l6LU6cJk+DNON4eOU5EqFu1r5"
        "RjBimC5eq5fX69iN+naT7t2ih7ea07eb3yPN9dGMTv7GyFiSMFYR7jKpx9xtdt/DPXea7Pea+OOU6H6FelC5xivaw0oz"
        "QYEeVaZJivXs2gsIMSFLKCXkCGWEckIFoZJQRagmTCHkCTWEqYRphFrCDMJMQh1hFmE2oZ4wlzCPMJ+wgLCI0EBoJCwm"
        "LCEsJSwjNBGaCcsJKwgrCasIqwlrCOsI6wkbCBsJmwibCS2EbYTthB2EVsJO2ibTVkFbJW1VtOVpq6FtLm3zaGuirZlC"
        "jkIZhXIKkylUUKikMI/CAgoLKTRQaKLgOasprKGwmcIWCltpr6F9Ku3TaJ9Oey3tM2ifSXsd7Xa1sKuJXc3s3lYvO6SV"
        "3dvXywbZKi18DattbE0="
    )
)

# ---------------------------------------------------------------- tokenizers


class Tokenizers:
    """Small tokenizers of each kind, trained on some lines, made by the classes of transformers."""

    def __init__(self, lines: Sequence[str], *, pieces: int, length: int, charsmap: bytes) -> None:
        self.lines = list(lines)
        #: about how many tokens each may have
        self.pieces = pieces
        #: longest sequence in tokens (model_max_length)
        self.length = length
        self.charsmap = charsmap

    def _words(self, specials: Sequence[str], *, lower: bool) -> dict[str, int]:
        """WordPiece tokens, the special ones first."""
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=self.pieces, special_tokens=list(specials), show_progress=False
        )
        tokenizer.train_from_iterator(self.lines, trainer)
        return tokenizer.get_vocab()

    def _unigram(self, count: int | None = None) -> list[tuple[str, float]]:
        """Sentencepiece pieces with their scores, without special ones."""
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Precompiled(self.charsmap)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
        trainer = trainers.UnigramTrainer(
            vocab_size=count or self.pieces, special_tokens=["<unk>"], unk_token="<unk>",
            show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(self.lines, trainer)
        pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
        return [(piece, score) for piece, score in pieces if piece != "<unk>"]

    def _bytes(self, first: Sequence[str]) -> Tokenizer:
        """Byte pairs over all 256 bytes, after some special tokens."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=self.pieces, special_tokens=list(first), show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        tokenizer.train_from_iterator(self.lines, trainer)
        return tokenizer

    def bert(self, *, lower: bool = True) -> Any:
        """WordPiece as in BERT, DistilBERT, ELECTRA, NomicBERT."""
        words = self._words(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], lower=lower)
        return hf.BertTokenizer(vocab=words, do_lower_case=lower, model_max_length=self.length)

    def mpnet(self) -> Any:
        """WordPiece between the marks of RoBERTa; <mask> is the last token."""
        words = self._words(["<s>", "<pad>", "</s>", "<unk>", "[UNK]"], lower=True)
        return hf.MPNetTokenizer(
            vocab=words | {"<mask>": len(words)}, do_lower_case=True, model_max_length=self.length
        )

    def xlmr(self) -> Any:
        """Unigram as in XLM-R: four special tokens first, <mask> last."""
        first = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
        return hf.XLMRobertaTokenizer(
            vocab=[*first, *self._unigram(), ("<mask>", 0.0)],
            _spm_precompiled_charsmap=self.charsmap,
            model_max_length=self.length,
        )

    def camembert(self) -> Any:
        """Unigram as in CamemBERT: <s> and </s> are 5 and 6, after pieces that are never used."""
        first = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
        scores = [0.0, 0.0, 0.0, 0.0, -100.0, 0.0, 0.0]
        return hf.CamembertTokenizer(
            vocab=[*zip(first, scores, strict=True), *self._unigram(), ("<mask>", 0.0)],
            _spm_precompiled_charsmap=self.charsmap,
            model_max_length=self.length,
        )

    def albert(self) -> Any:
        """Unigram as in ALBERT: lower case, no accents, before the character map."""
        first = [(token, 0.0) for token in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")]
        return hf.AlbertTokenizer(
            vocab=[*first, *self._unigram()],
            do_lower_case=True,
            keep_accents=False,
            _spm_precompiled_charsmap=self.charsmap,
            model_max_length=self.length,
        )

    def roberta(self) -> Any:
        """Byte pairs as in RoBERTa: a space belongs to the word after it; <mask> last."""
        trained = json.loads(self._bytes(["<s>", "<pad>", "</s>", "<unk>"]).to_str())["model"]
        vocab = trained["vocab"] | {"<mask>": len(trained["vocab"])}
        merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in trained["merges"]]
        return hf.RobertaTokenizer(vocab=vocab, merges=merges, model_max_length=self.length)

    def modernbert(self) -> Any:
        """Byte pairs as in ModernBERT: NFC; added tokens (runs of spaces, marks) after all others."""
        tokenizer = self._bytes([])
        tokenizer.normalizer = normalizers.NFC()
        plain = [AddedToken(t, normalized=True) for t in ("|||EMAIL|||", "    ", "   ", "  ")]
        special = [AddedToken("[UNK]"), AddedToken("[CLS]"), AddedToken("[SEP]"), AddedToken("[PAD]"),
                   AddedToken("[MASK]", lstrip=True)]  # fmt: skip
        tokenizer.add_tokens(plain)
        tokenizer.add_special_tokens(special)
        cls, sep = ("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[cls, sep]
        )
        return hf.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
            pad_token="[PAD]", mask_token="[MASK]", model_max_length=self.length,
            model_input_names=["input_ids", "attention_mask"],
        )  # fmt: skip


# ---------------------------------------------------------------- networks


@dataclass(frozen=True)
class Sizes:
    """Of every network."""

    hidden: int = 24
    layers: int = 3
    heads: int = 3
    inner: int = 36
    #: longest sequence in tokens
    positions: int = 96
    #: tokens, about
    pieces: int = 400


#: what transformers calls a network for vectors, with a classifier, and with a head for masked tokens
TASKS = {"vectors": "Model", "scores": "ForSequenceClassification", "sparse": "ForMaskedLM"}

#: A family: from a task and the settings of its config to a network and its tokenizer
Family = Callable[..., tuple[Any, Any]]


class Families:
    """Networks with random weights, each with the tokenizer that its family has.

    Each method takes the task (a key of ``TASKS``) and settings of the config that replace its own.
    """

    def __init__(self, tokenizers: Tokenizers, sizes: Sizes) -> None:
        self.tokenizers = tokenizers
        self.sizes = sizes

    def _network(self, kind: str, task: str, tokenizer: Any, **settings: Any) -> tuple[Any, Any]:
        size = self.sizes
        base = {
            "vocab_size": len(tokenizer), "hidden_size": size.hidden,
            "num_hidden_layers": size.layers, "num_attention_heads": size.heads,
            "intermediate_size": size.inner, "max_position_embeddings": size.positions,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
            "pad_token_id": tokenizer.pad_token_id,
        }  # fmt: skip
        config = getattr(hf, f"{kind}Config")(**(base | settings))
        network = getattr(hf, f"{kind}{TASKS[task]}")(config)
        return randomise(network), tokenizer

    def bert(self, task: str, *, lower: bool = True, tokenizer: Any = None, **s: Any) -> tuple[Any, Any]:
        """BERT with WordPiece, or with a tokenizer that is given."""
        return self._network("Bert", task, tokenizer or self.tokenizers.bert(lower=lower), **s)

    def distilbert(self, task: str, *, lower: bool = True, **s: Any) -> tuple[Any, Any]:
        """DistilBERT: other names in the config and in the weights, no segments, no pooler."""
        size = self.sizes
        names = {"dim": size.hidden, "n_layers": size.layers, "n_heads": size.heads,
                 "hidden_dim": size.inner, "dropout": 0.0, "attention_dropout": 0.0}  # fmt: skip
        tokenizer = self.tokenizers.bert(lower=lower)
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
        config = hf.DistilBertConfig(
            vocab_size=len(tokenizer), max_position_embeddings=size.positions, **(names | s)
        )
        return randomise(getattr(hf, f"DistilBert{TASKS[task]}")(config)), tokenizer

    def electra(self, task: str, **s: Any) -> tuple[Any, Any]:
        """ELECTRA: embeddings of half the width, projected."""
        width = {"embedding_size": self.sizes.hidden // 2}
        return self._network("Electra", task, self.tokenizers.bert(), **(width | s))

    def nomic(self, task: str, **s: Any) -> tuple[Any, Any]:
        """NomicBERT: rotary positions, gated feed-forward; an embedding table with spare rows."""
        tokenizer = self.tokenizers.bert()
        spare = {"vocab_size": len(tokenizer) + 6}
        return self._network("NomicBert", task, tokenizer, **(spare | s))

    def gte(self, task: str, *, tokenizer: Any = None, **s: Any) -> tuple[Any, Any]:
        """GTE: rotary positions, gated feed-forward with gelu."""
        return self._network("Gte", task, tokenizer or self.tokenizers.bert(), **s)

    def _offset(self) -> dict[str, Any]:
        # the first two rows of the position table are never used
        return {"max_position_embeddings": self.sizes.positions + 2}

    def mpnet(self, task: str, **s: Any) -> tuple[Any, Any]:
        """MPNet: one relative attention bias for all layers; positions start at 2."""
        own = self._offset() | {"relative_attention_num_buckets": 32, "layer_norm_eps": 1e-5}
        return self._network("MPNet", task, self.tokenizers.mpnet(), **(own | s))

    def _roberta(self, kind: str, task: str, tokenizer: Any, s: dict[str, Any]) -> tuple[Any, Any]:
        own = self._offset() | {
            "type_vocab_size": 1, "layer_norm_eps": 1e-5,
            "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        }  # fmt: skip
        return self._network(kind, task, tokenizer, **(own | s))

    def roberta(self, task: str, **s: Any) -> tuple[Any, Any]:
        """RoBERTa: positions start at 2, one kind of segment."""
        return self._roberta("Roberta", task, self.tokenizers.roberta(), s)

    def xlmr(self, task: str, **s: Any) -> tuple[Any, Any]:
        """XLM-R: RoBERTa with Unigram."""
        return self._roberta("XLMRoberta", task, self.tokenizers.xlmr(), s)

    def camembert(self, task: str, **s: Any) -> tuple[Any, Any]:
        """CamemBERT: RoBERTa with its own places for the special tokens."""
        return self._roberta("Camembert", task, self.tokenizers.camembert(), s)

    def albert(self, task: str, **s: Any) -> tuple[Any, Any]:
        """ALBERT: one layer's weights for all layers, embeddings of half the width, gelu_new."""
        own = {"embedding_size": self.sizes.hidden // 2, "num_hidden_groups": 1, "inner_group_num": 1}
        return self._network("Albert", task, self.tokenizers.albert(), **(own | s))

    def modernbert(self, task: str, **s: Any) -> tuple[Any, Any]:
        """ModernBERT: pre-norm, rotary positions of two kinds, a local window shorter than the texts."""
        tokenizer = self.tokenizers.modernbert()
        own = {
            "global_attn_every_n_layers": 2, "local_attention": 12,
            "bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id,
            "cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id,
        }  # fmt: skip
        return self._network("ModernBert", task, tokenizer, **(own | s))


def randomise(network: Any) -> Any:
    """Give every parameter, biases and norms too, values that matter for the result."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            noise = torch.randn(value.shape)
            if value.ndim > 1:
                value.copy_(noise * (0.5 if "embedding" in name or "bias" in name else 0.2))
            elif "norm" in name.lower() and name.endswith("weight"):
                value.copy_(1 + 0.2 * noise)
            else:
                value.copy_(0.1 * noise)
    return network.eval()


# ---------------------------------------------------------------- how a directory can be written

#: A change of a directory on disk
Change = Callable[[Path], None]


def read(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(path: Path, value: object) -> None:
    """Write a JSON file as transformers does."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write a safetensors file as transformers does."""
    save_file({k: v.contiguous() for k, v in weights.items()}, path, metadata={"format": "pt"})


def old_modules(directory: Path) -> None:
    """modules.json and the modules' configs as sentence-transformers 2 to 5 wrote them."""
    modules = json.loads((directory / "modules.json").read_text())
    for module in modules:
        kind = module["type"].rpartition(".")[2]
        module["type"] = f"sentence_transformers.models.{kind}"
        folder = directory / module["path"]
        if kind == "Normalize":
            shutil.rmtree(folder)  # it saved nothing: there is no such folder on the hub
        if kind == "Dense":
            config = read(folder / "config.json")
            keys = ("in_features", "out_features", "bias", "activation_function")
            write(folder / "config.json", {key: config[key] for key in keys})
        if kind == "Pooling":
            old_pooling(folder / "config.json")
    write(directory / "modules.json", modules)


def old_pooling(path: Path) -> None:
    """One flag for each way of pooling; the younger ones only where one of them is used."""
    config = read(path)
    modes = config["pooling_mode"]
    modes = [modes] if isinstance(modes, str) else modes
    flags = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens",
             "mean_sqrt_len_tokens": "mean_sqrt_len_tokens"}  # fmt: skip
    young = {"weightedmean": "weightedmean_tokens", "lasttoken": "lasttoken"}
    if set(modes) & set(young):
        flags |= young
    old = {"word_embedding_dimension": config["embedding_dimension"]}
    old |= {f"pooling_mode_{flag}": mode in modes for mode, flag in flags.items()}
    if not config["include_prompt"]:
        old["include_prompt"] = False
    write(path, old)


def old_config(path: Path) -> None:
    """config.json as transformers 4 wrote it."""
    config = read(path)
    config["torch_dtype"] = config.pop("dtype")
    for key in ("tie_word_embeddings", "add_cross_attention", "is_decoder"):
        config.pop(key, None)
    config = {key: value for key, value in config.items() if value is not None}
    kind = config["model_type"]
    if kind in ("bert", "roberta", "xlm-roberta", "camembert", "electra", "albert"):
        config["position_embedding_type"] = "absolute"
    ropes = config.pop("rope_parameters", None)
    if kind == "modernbert":
        layers = config.pop("layer_types")
        config["global_attn_every_n_layers"] = next(
            i for i in range(1, len(layers) + 1) if i == len(layers) or layers[i] == "full_attention"
        )
        config["global_rope_theta"] = ropes["full_attention"]["rope_theta"]
        config["local_rope_theta"] = ropes["sliding_attention"]["rope_theta"]
    elif ropes:
        config["rope_theta"] = ropes["rope_theta"]
    config["transformers_version"] = "4.48.0" if kind == "modernbert" else "4.21.0"
    write(path, {"_name_or_path": "someone/some-model", **config})


def old_tokenizer(directory: Path, longest: int) -> None:
    """Tokenizer files as transformers 4 wrote them: vocab.txt or vocab.json too, special_tokens_map."""
    path = directory / "tokenizer_config.json"
    settings = read(path)
    for key in ("backend", "is_local", "local_files_only", "extra_special_tokens"):
        settings.pop(key, None)
    settings["model_max_length"] = longest
    settings["clean_up_tokenization_spaces"] = True
    if settings["tokenizer_class"] == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    write(path, settings)
    marks = {key: value for key, value in settings.items() if key.endswith("_token")}
    write(directory / "special_tokens_map.json", marks)
    model = read(directory / "tokenizer.json")["model"]
    if model["type"] == "WordPiece":
        words = sorted(model["vocab"], key=model["vocab"].get)
        (directory / "vocab.txt").write_text("".join(f"{w}\n" for w in words), encoding="utf-8")
    if model["type"] == "BPE" and settings["tokenizer_class"] == "RobertaTokenizer":
        write(directory / "vocab.json", model["vocab"])
        merges = "".join(f"{a} {b}\n" for a, b in model["merges"])
        (directory / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")


def old_weights(path: Path) -> None:
    """The numbers of the positions, which transformers saved until 4.31, among the weights."""
    weights = load_file(path)
    for name in [n for n in weights if n.endswith("embeddings.position_embeddings.weight")]:
        count = len(weights[name])
        weights[name.replace("position_embeddings.weight", "position_ids")] = torch.arange(count)[None]
    save_weights(path, weights)


def old(*, length: int | None, longest: int = 512, lower: bool = False) -> Change:
    """The whole directory in the old form.

    ``length`` goes to sentence_bert_config.json, ``longest`` to tokenizer_config.json, which says less:
    sentence-transformers takes the former where it is a number.
    """

    def change(directory: Path) -> None:
        old_modules(directory)
        old_config(directory / "config.json")
        old_tokenizer(directory, longest)
        old_weights(directory / "model.safetensors")
        write(
            directory / "sentence_bert_config.json",
            {"max_seq_length": length, "do_lower_case": lower},
        )
        about = read(directory / "config_sentence_transformers.json")
        kept = {"__version__": {"sentence_transformers": "2.2.2", "transformers": "4.21.0",
                                "pytorch": "1.12.1"}}  # fmt: skip
        if any(about["prompts"].values()):
            kept |= {"prompts": about["prompts"], "default_prompt_name": about["default_prompt_name"]}
        write(directory / "config_sentence_transformers.json", kept)

    return change


def old_cross(activation: str | None, *, longest: int, young: bool = False) -> Change:
    """A cross-encoder as versions 2 to 5 saved it: a bare model, at most a line in config.json.

    The line is another one since version 4 (``young``).
    """

    def change(directory: Path) -> None:
        for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
            (directory / name).unlink()
        old_config(directory / "config.json")
        old_tokenizer(directory, longest)
        old_weights(directory / "model.safetensors")
        if activation:
            line: dict[str, Any] = {"sbert_ce_default_activation_function": activation}
            if young:
                line = {"sentence_transformers": {"activation_fn": activation, "version": "4.1.0"}}
            write(directory / "config.json", read(directory / "config.json") | line)

    return change


def old_sparse(*, longest: int) -> Change:
    """A SPLADE model as version 5 saved it: the transformer is an MLMTransformer."""

    def change(directory: Path) -> None:
        modules = json.loads((directory / "modules.json").read_text())
        start = "sentence_transformers.sparse_encoder.models."
        modules[0]["type"], modules[1]["type"] = start + "MLMTransformer", start + "SpladePooling"
        write(directory / "modules.json", modules)
        path = directory / modules[1]["path"] / "config.json"
        config = read(path)
        config["word_embedding_dimension"] = config.pop("embedding_dimension")
        write(path, config)
        old_config(directory / "config.json")
        old_tokenizer(directory, longest)
        old_weights(directory / "model.safetensors")
        write(
            directory / "sentence_bert_config.json",
            {"max_seq_length": longest, "do_lower_case": False},
        )
        about = read(directory / "config_sentence_transformers.json")
        about["__version__"] = {"sentence_transformers": "5.0.0", "transformers": "4.50.0",
                                "pytorch": "2.6.0"}  # fmt: skip
        write(directory / "config_sentence_transformers.json", about)

    return change


def in_folder(name: str) -> Change:
    """The transformer in a folder of its own, 0_Transformer or 0_BERT: the oldest form."""

    def change(directory: Path) -> None:
        kept = ("modules.json", "config_sentence_transformers.json")
        files = [p for p in directory.iterdir() if p.is_file() and p.name not in kept]
        (directory / name).mkdir()
        for path in files:
            path.rename(directory / name / path.name)
        modules = json.loads((directory / "modules.json").read_text())
        modules[0]["path"] = name
        write(directory / "modules.json", modules)

    return change


def sharded(parts: int) -> Change:
    """Weights in several files and an index, as transformers saves large ones."""

    def change(directory: Path) -> None:
        weights = load_file(directory / "model.safetensors")
        (directory / "model.safetensors").unlink()
        names = list(weights)
        places = {}
        for part in range(parts):
            file = f"model-{part + 1:05}-of-{parts:05}.safetensors"
            own = names[part::parts]
            save_weights(directory / file, {name: weights[name] for name in own})
            places |= dict.fromkeys(own, file)
        total = sum(value.numel() * value.element_size() for value in weights.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        write(directory / "model.safetensors.index.json", index)

    return change


def stored_as(dtype: torch.dtype) -> Change:
    """Weights in half precision on disk."""

    def change(directory: Path) -> None:
        path = directory / "model.safetensors"
        weights = load_file(path)
        save_weights(path, {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()})
        config = read(directory / "config.json")
        config["torch_dtype" if "torch_dtype" in config else "dtype"] = str(dtype).removeprefix("torch.")
        write(directory / "config.json", config)

    return change


def renamed(**pairs: str) -> Change:
    """Weights under other names: parts of names replaced, ``start`` put before each."""

    def change(directory: Path) -> None:
        weights = {}
        for name, value in load_file(directory / "model.safetensors").items():
            for old_part, new_part in pairs.items():
                if old_part == "start":
                    name = new_part + name
                else:
                    name = name.replace(old_part.replace("__", "."), new_part)
            weights[name] = value
        save_weights(directory / "model.safetensors", weights)

    return change


def lacking(start: str) -> Change:
    """Without some weights that the vectors do not need, the pooler's say."""

    def change(directory: Path) -> None:
        weights = load_file(directory / "model.safetensors")
        kept = {name: value for name, value in weights.items() if not name.startswith(start)}
        assert len(kept) < len(weights)
        save_weights(directory / "model.safetensors", kept)

    return change


def stale_truncation(length: int) -> Change:
    """Truncation and padding in tokenizer.json, left there by a training: they mean nothing."""

    def change(directory: Path) -> None:
        value = read(directory / "tokenizer.json")
        pad = read(directory / "tokenizer_config.json")["pad_token"]
        number = next(t["id"] for t in value["added_tokens"] if t["content"] == pad)
        value["truncation"] = {"direction": "Right", "max_length": length, "strategy": "LongestFirst",
                               "stride": 0}  # fmt: skip
        value["padding"] = {"strategy": {"Fixed": length}, "direction": "Right",
                            "pad_to_multiple_of": None, "pad_id": number, "pad_type_id": 0,
                            "pad_token": pad}  # fmt: skip
        write(directory / "tokenizer.json", value)

    return change


def without(*names: str) -> Change:
    """Files that are not there."""

    def change(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return change


def added_tokens_beside(*tokens: str) -> Change:
    """Added tokens as transformers 4 wrote them: in added_tokens.json, not in vocab.txt."""

    def change(directory: Path) -> None:
        known = read(directory / "tokenizer.json")["added_tokens"]
        numbers = {t["content"]: t["id"] for t in known if t["content"] in tokens}
        assert len(numbers) == len(tokens)
        write(directory / "added_tokens.json", numbers)

    return change


# ---------------------------------------------------------------- the directories


class Maker:
    """Writes directories below ``out`` and the values that sentence-transformers gives for each."""

    def __init__(
        self,
        out: Path,
        texts: Sequence[str],
        pairs: Sequence[tuple[str, str]],
        *,
        seed: int,
        only: Sequence[str] = (),
    ) -> None:
        self.out = out
        self.seed = seed
        self.texts = list(texts)
        self.pairs = list(pairs)
        self.only = set(only)
        self.index: dict[str, dict[str, str]] = read(out / "index.json") if only else {}
        out.mkdir(parents=True, exist_ok=True)
        write(out / "texts.json", self.texts)
        write(out / "pairs.json", self.pairs)

    def sentence(
        self,
        name: str,
        about: str,
        family: Family,
        *,
        pooling: str | Sequence[str] = "mean",
        include_prompt: bool = True,
        layer_norm: bool = False,
        dense: Sequence[dict[str, Any]] = (),
        normalize: bool = False,
        length: int | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt: str | None = None,
        changes: Sequence[Change] = (),
        other_vectors: bool = False,
        **settings: Any,
    ) -> None:
        """A model for vectors: the network, pooling and what follows; then ``changes`` on disk.

        They must leave the vectors as they are, unless ``other_vectors``. ``settings`` go to the family.
        """
        if not self._wanted(name):
            return
        network, tokenizer = family("vectors", **settings)
        with self._bare(name, network, tokenizer) as bare:
            limit = {"max_seq_length": length} if length else {}
            transformer = Transformer(str(bare), **limit)
        modules = [
            transformer,
            Pooling(
                network.config.hidden_size, pooling_mode=pooling, include_prompt=include_prompt
            ),
        ]
        if layer_norm:
            modules.append(LayerNorm(modules[-1].get_embedding_dimension()))
            randomise(modules[-1])
        for layer in dense:
            modules.append(Dense(modules[-1].get_embedding_dimension(), **layer))
        if normalize:
            modules.append(Normalize())
        model = SentenceTransformer(
            modules=modules, device="cpu", prompts=prompts, default_prompt_name=default_prompt
        )
        model.save_pretrained(str(self.out / name), create_model_card=False)

        def measure(directory: Path) -> dict[str, np.ndarray]:
            loaded = SentenceTransformer(
                str(directory), device="cpu", model_kwargs={"dtype": torch.float32}
            )
            return {"vectors": loaded.encode(self.texts, batch_size=1).astype(np.float32)}

        self._finish(name, about, "vectors", measure, changes, other=other_vectors)

    def cross(
        self,
        name: str,
        about: str,
        family: Family,
        *,
        labels: int,
        activation: torch.nn.Module | None = None,
        changes: Sequence[Change] = (),
        **settings: Any,
    ) -> None:
        """A cross-encoder: pairs of texts in, a score or a score for each label out."""
        if not self._wanted(name):
            return
        network, tokenizer = family("scores", num_labels=labels, **settings)
        with self._bare(name, network, tokenizer) as bare:
            model = CrossEncoder(str(bare), activation_fn=activation, device="cpu")
        model.save_pretrained(str(self.out / name), create_model_card=False)

        def measure(directory: Path) -> dict[str, np.ndarray]:
            loaded = CrossEncoder(
                str(directory), device="cpu", model_kwargs={"dtype": torch.float32}
            )
            raw = loaded.predict(self.pairs, batch_size=1, activation_fn=torch.nn.Identity())
            return {"scores": loaded.predict(self.pairs, batch_size=1), "logits": raw}

        self._finish(name, about, "scores", measure, changes)

    def sparse(
        self,
        name: str,
        about: str,
        family: Family,
        *,
        pooling: str = "max",
        changes: Sequence[Change] = (),
        **settings: Any,
    ) -> None:
        """SPLADE: a weight for each token of the vocabulary, most of them zero."""
        if not self._wanted(name):
            return
        network, tokenizer = family("sparse", **settings)
        with torch.no_grad():  # fewer tokens above zero
            network.get_output_embeddings().bias.sub_(1.5)
        with self._bare(name, network, tokenizer) as bare:
            transformer = Transformer(str(bare), transformer_task="fill-mask")
        model = SparseEncoder(modules=[transformer, SpladePooling(pooling)], device="cpu")
        model.save_pretrained(str(self.out / name), create_model_card=False)

        def measure(directory: Path) -> dict[str, np.ndarray]:
            loaded = SparseEncoder(
                str(directory), device="cpu", model_kwargs={"dtype": torch.float32}
            )
            rows = loaded.encode(self.texts, batch_size=1, convert_to_sparse_tensor=False)
            return {"sparse": rows.numpy()}

        self._finish(name, about, "sparse", measure, changes)

    def _wanted(self, name: str) -> bool:
        """Whether to make it; then there is nothing of it yet, and its random numbers are its own."""
        wanted = not self.only or name in self.only
        if wanted:
            shutil.rmtree(self.out / name, ignore_errors=True)
            torch.manual_seed(self.seed + zlib.crc32(name.encode()))
        return wanted

    @contextmanager
    def _bare(self, name: str, network: Any, tokenizer: Any) -> Iterator[Path]:
        """The network and the tokenizer in a folder that is gone afterwards."""
        bare = self.out / f"{name}.part"
        network.save_pretrained(bare)
        tokenizer.save_pretrained(bare)
        try:
            yield bare
        finally:
            shutil.rmtree(bare)

    def _finish(
        self,
        name: str,
        about: str,
        kind: str,
        measure: Callable[[Path], dict[str, np.ndarray]],
        changes: Sequence[Change],
        *,
        other: bool = False,
    ) -> None:
        """Make the changes, see that sentence-transformers gives the same as before, keep that."""
        directory = self.out / name
        before = measure(directory)
        for change in changes:
            change(directory)
        found = measure(directory) if changes else before
        difference = max(float(np.abs(found[key] - before[key]).max()) for key in found)
        if not all(np.isfinite(value).all() for value in found.values()):
            raise AssertionError(f"{name}: not all numbers are finite")
        if difference > 1e-6 and not other:
            raise AssertionError(f"{name}: its rewriting moved a value by {difference:.1e}")
        np.savez(self.out / f"{name}.npz", **found)
        self.index[name] = {"kind": kind, "about": about}
        write(self.out / "index.json", dict(sorted(self.index.items())))
        size = sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())
        print(f"{name:24} {size / 1024:5.0f} KB  {found[kind].shape}  rewriting {difference:.0e}  {about}")


# fmt: off
def sentence_models(make: Maker, f: Families, full: int) -> None:
    """Directories for vectors; ``full`` is the longest sequence of the networks."""
    st = make.sentence
    # BERT: each way of pooling
    st("bert-mean", "mean", f.bert)
    st("bert-mean-norm-old", "mean, Normalize; truncation and padding left in tokenizer.json", f.bert,
       normalize=True, changes=[old(length=full), stale_truncation(12)])
    st("bert-cls-norm", "cls, Normalize; keeps case", f.bert, lower=False, pooling="cls", normalize=True)
    st("bert-cls-old", "cls; keeps case", f.bert, lower=False, pooling="cls", changes=[old(length=full)])
    st("bert-max", "max; weights without a pooler", f.bert, pooling="max", changes=[lacking("pooler.")])
    st("bert-sqrt-old", "mean_sqrt_len_tokens", f.bert, pooling="mean_sqrt_len_tokens",
       changes=[old(length=full)])
    st("bert-weightedmean", "weightedmean, Normalize", f.bert, pooling="weightedmean", normalize=True)
    st("bert-weightedmean-old", "weightedmean", f.bert, pooling="weightedmean",
       changes=[old(length=full)])
    st("bert-lasttoken", "lasttoken; keeps case", f.bert, lower=False, pooling="lasttoken")
    st("bert-max-mean", "max and mean, in this order", f.bert, pooling=["max", "mean"])
    st("bert-lasttoken-cls", "lasttoken and cls, in this order", f.bert, pooling=["lasttoken", "cls"])
    st("bert-max-mean-old", "max and mean by flags: always cls, max, mean, sqrt, weightedmean, lasttoken",
       f.bert, pooling=["max", "mean"], changes=[old(length=full)])

    # what follows the pooling
    st("bert-dense-tanh", "cls, Dense with tanh, Normalize (LaBSE)", f.bert, pooling="cls",
       dense=[{"out_features": 20}], normalize=True)
    st("bert-dense-linear-old", "mean, Dense without bias and activation", f.bert,
       dense=[{"out_features": 48, "bias": False, "activation_function": torch.nn.Identity()}],
       changes=[old(length=full)])

    st("bert-layernorm-old", "max, LayerNorm, Dense with tanh, Normalize", f.bert, pooling="max",
       layer_norm=True, dense=[{"out_features": 16}], normalize=True, changes=[old(length=full)])

    # prompts
    ask = {"query": "ask: ", "document": "The document says: "}
    st("bert-prompt", "default prompt", f.bert, prompts=ask, default_prompt="document")
    st("bert-prompt-old", "default prompt, Normalize", f.bert, prompts=ask, default_prompt="query",
       normalize=True, changes=[old(length=full)])
    st("bert-prompt-left-out", "default prompt, left out of the mean", f.bert, prompts=ask,
       default_prompt="document", include_prompt=False)
    st("bert-prompts-unused", "prompts, none by default", f.bert, prompts=ask)

    # lengths
    st("bert-length-16", "16 tokens, by tokenizer_config.json", f.bert, length=16)
    st("bert-length-16-old", "16 tokens, by sentence_bert_config.json", f.bert, length=16,
       changes=[old(length=16)])
    st("bert-length-unset-old", "no length anywhere: max_position_embeddings", f.bert,
       changes=[old(length=None, longest=10**30)])

    # tokenizers
    st("bert-lower-in-st-old", "keeps case, but do_lower_case in sentence_bert_config.json", f.bert,
       lower=False, changes=[old(length=full, lower=True)], other_vectors=True)
    for name, about, changes in (
        ("bert-added-token", "added token [Q]", []),
        ("bert-added-token-old", "added token [Q], which vocab.txt lacks",
         [old(length=full), added_tokens_beside("[Q]")]),
    ):
        tokenizer = f.tokenizers.bert()
        tokenizer.add_tokens(["[Q]"], special_tokens=True)
        st(name, about, f.bert, tokenizer=tokenizer, changes=changes)
    st("bert-vocab-only-old", "vocab.txt without tokenizer.json", f.bert,
       changes=[old(length=full), without("tokenizer.json")])
    st("bert-unigram-old", "BERT with XLM-R's tokenizer (paraphrase-multilingual-MiniLM)", f.bert,
       tokenizer=f.tokenizers.xlmr(), changes=[old(length=full)])

    # files
    st("bert-folder-old", "the transformer in 0_Transformer/", f.bert,
       changes=[old(length=full), in_folder("0_Transformer")])
    st("bert-shards", "three safetensors files and their index", f.bert, changes=[sharded(3)])
    st("bert-prefix-old", "weights as bert.*, LayerNorm.gamma and beta", f.bert, normalize=True,
       changes=[old(length=full), renamed(start="bert.", LayerNorm__weight="LayerNorm.gamma",
                                          LayerNorm__bias="LayerNorm.beta")])
    st("bert-float16", "float16 weights", f.bert, changes=[stored_as(torch.float16)], other_vectors=True)
    st("bert-bfloat16-old", "bfloat16 weights", f.bert,
       changes=[old(length=full), stored_as(torch.bfloat16)], other_vectors=True)

    # the other families
    st("xlmr-cls-norm", "cls, Normalize (bge-m3)", f.xlmr, pooling="cls", normalize=True)
    st("xlmr-mean-old", "mean, prompts (multilingual-e5)", f.xlmr, prompts={"query": "query: "},
       default_prompt="query", changes=[old(length=full)])
    st("roberta-mean", "mean", f.roberta)
    st("roberta-mean-norm-old", "mean, Normalize (all-distilroberta)", f.roberta, normalize=True,
       changes=[old(length=full)])
    st("camembert-mean-old", "mean", f.camembert, changes=[old(length=full)])
    st("mpnet-mean-norm-old", "mean, Normalize (all-mpnet-base-v2)", f.mpnet, normalize=True,
       changes=[old(length=full)])
    st("distilbert-cls", "cls", f.distilbert, pooling="cls")
    st("distilbert-dense-old", "keeps case, mean, Dense with tanh (distiluse)", f.distilbert, lower=False,
       dense=[{"out_features": 24}], changes=[old(length=full)])
    st("electra-mean", "mean", f.electra)
    st("albert-mean-old", "mean (paraphrase-albert)", f.albert, changes=[old(length=full)])
    st("modernbert-mean", "mean", f.modernbert)
    st("modernbert-cls-norm-old", "cls, Normalize, config as on the hub (gte-modernbert)", f.modernbert,
       pooling="cls", normalize=True, changes=[old(length=full)])
    st("nomic-mean-norm", "mean, Normalize, prompts", f.nomic, normalize=True,
       prompts={"document": "search_document: "}, default_prompt="document")
    st("gte-cls-norm", "cls, Normalize", f.gte, pooling="cls", normalize=True)

    # prompts that are left out of the pooling, in every mode and with other tokenizers
    for family in ("roberta", "xlmr", "modernbert"):
        st(f"{family}-prompt-left-out", "default prompt, left out of the mean", getattr(f, family),
           prompts=ask, default_prompt="query", include_prompt=False)
    st("bert-prompt-left-out-modes", "default prompt, left out of five modes", f.bert, prompts=ask,
       pooling=["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"],
       default_prompt="query", include_prompt=False)

    # settings of the networks
    wide = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    st("bert-even-heads", "an even number of heads", f.bert, **wide)
    st("mpnet-even-heads", "an even number of heads", f.mpnet, **wide)
    st("modernbert-even-heads", "an even number of heads", f.modernbert, **wide)
    st("bert-relu", "relu", f.bert, hidden_act="relu")
    st("albert-groups", "two groups of layers", f.albert, num_hidden_groups=2, num_hidden_layers=5)
    st("electra-wide", "embeddings as wide as the layers", f.electra, embedding_size=24)
    st("modernbert-biases", "biases everywhere", f.modernbert, attention_bias=True, mlp_bias=True,
       norm_bias=True)
    st("modernbert-layers-old", "seven layers, every third global, config as on the hub",
       f.modernbert, num_hidden_layers=7, global_attn_every_n_layers=3, local_attention=8,
       changes=[old(length=full)])
    st("gte-no-segments", "no segments; linear rotary scaling", f.gte, type_vocab_size=0,
       rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 20000.0})
    st("bert-dense-twice", "Dense with GELU, Dense with sigmoid, Normalize", f.bert, normalize=True,
       dense=[{"out_features": 20, "activation_function": torch.nn.GELU()},
              {"out_features": 8, "activation_function": torch.nn.Sigmoid()}])
    st("bert-length-7", "7 tokens", f.bert, length=7)

    # without tokenizer.json
    st("roberta-vocab-only-old", "vocab.json and merges.txt without tokenizer.json", f.roberta,
       changes=[old(length=full), without("tokenizer.json")])
    st("mpnet-vocab-only-old", "vocab.txt without tokenizer.json", f.mpnet,
       changes=[old(length=full), without("tokenizer.json")])


def other_models(make: Maker, f: Families, full: int) -> None:
    """Cross-encoders and sparse encoders."""
    identity = "torch.nn.modules.linear.Identity"
    ce = make.cross
    ce("cross-bert", "one label, sigmoid", f.bert, labels=1)
    ce("cross-bert-identity", "one label, no activation", f.bert, labels=1, activation=torch.nn.Identity())
    ce("cross-bert-identity-old", "one label, no activation (ms-marco-MiniLM)", f.bert, labels=1,
       activation=torch.nn.Identity(), changes=[old_cross(identity, longest=full)])
    ce("cross-bert-identity-young", "the same as versions 4 and 5 saved it", f.bert, labels=1,
       activation=torch.nn.Identity(), changes=[old_cross(identity, longest=full, young=True)])
    ce("cross-bert-3", "three labels", f.bert, labels=3)
    ce("cross-xlmr-old", "one label, sigmoid (bge-reranker)", f.xlmr, labels=1,
       changes=[old_cross(None, longest=full)])
    ce("cross-roberta-3", "three labels", f.roberta, labels=3)
    make.sparse("splade-bert", "max", f.bert)
    make.sparse("splade-bert-old", "max (splade-v3)", f.bert, changes=[old_sparse(longest=full)])
    make.sparse("splade-distilbert", "sum", f.distilbert, pooling="sum")

    for family in ("mpnet", "distilbert", "electra", "albert", "nomic", "camembert", "modernbert"):
        ce(f"cross-{family}", "one label, sigmoid", getattr(f, family), labels=1)
    ce("cross-modernbert-mean", "two labels of the mean, biases", f.modernbert, labels=2,
       classifier_pooling="mean", classifier_bias=True, norm_bias=True)
    ce("cross-bert-sigmoid", "three labels, sigmoid", f.bert, labels=3, activation=torch.nn.Sigmoid())
    for family in ("roberta", "mpnet", "electra", "albert", "modernbert", "gte"):
        make.sparse(f"splade-{family}", "max", getattr(f, family))
# fmt: on


def lines_of(corpus: Path, count: int) -> list[str]:
    """The first lines of a text file that are not blank."""
    lines = [line.strip() for line in corpus.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line][:count]


def main() -> None:
    """Make what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to fill")
    parser.add_argument("--corpus", type=Path, required=True, help="text that the tokenizers learn from")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=(), help="these and no others")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = Sizes()
    tokenizers = Tokenizers(
        [*lines_of(arguments.corpus, 1500), *LETTERS],
        pieces=sizes.pieces, length=sizes.positions, charsmap=CHARSMAP,
    )  # fmt: skip
    families = Families(tokenizers, sizes)
    make = Maker(arguments.out, TEXTS, PAIRS, seed=arguments.seed, only=arguments.only)
    sentence_models(make, families, sizes.positions)
    other_models(make, families, sizes.positions)


if __name__ == "__main__":
    main()
