"""Which words pushed an answer: what is left out, what it costs, and what the model never reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from miniml.model.classifier import Classifier
from miniml.model.engines import REFERENCE
from miniml.tasks import SingleLabelPrediction
from serving.explanation import MAX_RUNS, explain
from serving.inference import Inference
from serving.settings import Limits, QueueSettings
from tests.predictor import Server, error_of


@pytest.fixture(scope="module")
def classifier(tiny_model: Path) -> Classifier[SingleLabelPrediction]:
    return Classifier.load(tiny_model, SingleLabelPrediction)


def words(classifier: Classifier, text: str) -> list[str]:
    return [text[begin:end] for begin, end in classifier.words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We loved  it, didn't we?!", ["We", "loved", "it,", "didn't", "we?!"]),
        ("(very) - fine", ["(very)", "-", "fine"]),
        ("好吃吗", ["好", "吃", "吗"]),
        ("déjà vu", ["déjà", "vu"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_words_are_what_a_reader_would_call_words(
    classifier: Classifier, text: str, expected: list[str]
) -> None:
    assert words(classifier, text) == expected


def test_a_tokenizer_that_counts_blanks_as_part_of_words_leaves_them_out(classifier: Classifier) -> None:
    backend = Tokenizer(models.BPE({"Ġ": 0, "a": 1, "b": 2, "Ġb": 3}, [("Ġ", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, model_max_length=8
    )
    other = Classifier(classifier.engine, tokenizer, classifier.head, classifier.manifest)
    assert words(other, "a b") == ["a", "b"]


def test_the_pieces_make_up_the_text_and_their_scores_are_those_of_the_text_without_them(
    server: Server, classifier: Classifier[SingleLabelPrediction]
) -> None:
    text = " the food was\tawful, 好 and we hated it!"
    answer = server.post("/explain", {"text": text}).json()
    assert answer["method"] == "occlusion"
    pieces = answer["pieces"]
    assert "".join(piece["text"] for piece in pieces) == text
    assert {key: answer[key] for key in ("label", "score")} == pytest.approx(
        {"label": answer["label"], "score": max(answer["probabilities"].values())}
    )
    explained = 0
    for place, piece in enumerate(pieces):
        if not piece["text"].strip():
            assert piece["effect"] is None
            continue
        without = "".join(other["text"] for other in pieces[:place] + pieces[place + 1 :])
        (prediction,) = classifier.predict([without])
        score = prediction.probabilities[answer["label"]]
        assert piece["score_without"] == pytest.approx(score, abs=1e-5)
        assert (piece["effect"] > 0) == (score < answer["score"]) or score == pytest.approx(answer["score"])
        explained += 1
    assert explained == 9


def test_words_beyond_the_maximal_length_have_no_effect(server: Server, classifier: Classifier) -> None:
    text = " ".join(["food"] * (classifier.max_length + 20))
    pieces = server.post("/explain", {"text": text}).json()["pieces"]
    *read, unread = pieces
    assert unread["effect"] is None
    assert unread["text"].split() == ["food"] * 22  # of the length, [CLS] and [SEP] take two
    assert all(piece["effect"] is not None for piece in read if piece["text"].strip())


def test_of_a_long_text_neighbours_are_left_out_together(server: Server) -> None:
    pieces = server.post("/explain", {"text": " ".join(["food"] * 60)}).json()["pieces"]
    lengths = [len(piece["text"].split()) for piece in pieces if piece["effect"] is not None]
    assert len(lengths) == MAX_RUNS
    assert sum(lengths) == 60
    assert set(lengths) == {1, 2}


def test_no_word_means_no_reasons_and_a_text_too_long_is_refused(server: Server) -> None:
    assert server.post("/explain", {"text": ""}).json()["pieces"] == []
    assert [piece["effect"] for piece in server.post("/explain", {"text": "  "}).json()["pieces"]] == [None]
    too_long = server.post("/explain", {"text": "a" * 100_001})
    assert "--max_characters" in error_of(too_long, 400)


@pytest.mark.parametrize(
    ("limits", "queue"), [(Limits(texts=5), QueueSettings()), (Limits(), QueueSettings(texts=5))]
)
def test_an_explanation_asks_for_no_more_texts_than_are_ever_answered(
    tiny_model: Path, limits: Limits, queue: QueueSettings
) -> None:
    inference = Inference(Classifier.load(tiny_model), queue=queue, limits=limits)
    inference.start(tiny_model, REFERENCE)
    explanation = asyncio.run(explain(inference, "we loved the food and the staff was very fine"))
    assert len([piece for piece in explanation.pieces if piece.effect is not None]) == 4
