"""Every kind of corpus, as the data sets out there write it, and what is said of rows that are broken."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from serve_app.adapters.corpora import CorpusKind, kind_of, read_corpus
from serve_app.core.judgements import Direction, JudgedCorpus, JudgedDocument, LabelledPictures, limited, queries_of
from serve_app.errors import InvalidRequest

Write = Callable[[str, str | Sequence[Any]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a text, or JSON lines, below the test's folder."""

    def write(name: str, content: str | Sequence[Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = content if isinstance(content, str) else "\n".join(map(json.dumps, content))
        path.write_text(lines, encoding="utf-8")
        return path

    return write


def read(path: Path, images: Path | None = None, split: str = "test") -> JudgedCorpus:
    corpus = read_corpus(path, kind_of(path), images=images, split=split)
    assert isinstance(corpus, JudgedCorpus)
    return corpus


def captions_of(corpus: JudgedCorpus) -> dict[str, str | None]:
    return {each.id: each.text for each in corpus.documents if each.picture is None}


def test_captions_ask_for_their_picture_pictures_for_their_captions(tmp_path: Path, write: Write) -> None:
    write("a.png", "")
    write("b.png", "")
    corpus = read(write("captions.csv", "image,caption\na.png,red boat\na.png,a boat\nb.png,cat\n"))
    assert captions_of(corpus) == {"a.png#0": "red boat", "a.png#1": "a boat", "b.png#0": "cat"}
    assert JudgedDocument("a.png", picture=str(tmp_path / "a.png")) in corpus.documents
    wanted = {each.id: set(each.relevant) for each in queries_of(corpus, Direction.TEXT_TO_IMAGE)}
    assert wanted == {"a.png#0": {"a.png"}, "a.png#1": {"a.png"}, "b.png#0": {"b.png"}}
    wanted = {each.id: set(each.relevant) for each in queries_of(corpus, Direction.IMAGE_TO_TEXT)}
    assert wanted == {"a.png": {"a.png#0", "a.png#1"}, "b.png": {"b.png#0"}}
    mixed = {each.id: set(each.relevant) for each in queries_of(corpus, Direction.MIXED)}
    assert mixed["a.png#0"] == {"a.png", "a.png#1"}
    assert all(each.itself == each.id for each in corpus.queries)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.csv", 'file_name,caption\na.png,"red, and a ""boat"""\n'),
        ("captions.tsv", 'filename\tcomment\na.png\t"red, and a ""boat"""\n'),
        # Flickr30k's own: spaces around the cells, quotation marks as they are.
        ("results.csv", 'image_name| comment_number| comment\na.png| 0| red, and a "boat"\n'),
        ("captions.jsonl", '\n{"image": "a.png", "captions": ["red, and a \\"boat\\"", " "]}\n'),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "red, and a \\"boat\\""}'),
    ],
)
def test_captions_are_read_from_what_is_usual(tmp_path: Path, write: Write, name: str, text: str) -> None:
    write("a.png", "")
    write(name, text)
    corpus = read(tmp_path)
    assert list(captions_of(corpus).values()) == ['red, and a "boat"']
    assert corpus.broken == ()


def test_a_row_that_is_broken_is_left_out_and_told(write: Write) -> None:
    write("a.png", "")
    # So stands a row in Flickr30k's results.csv: a separator is missing.
    path = write("results.csv", "image_name| comment_number| comment\na.png| 0| a boat\na.png| 4   A dog runs .\n\n")
    corpus = read(path)
    assert captions_of(corpus) == {"a.png#0": "a boat"}
    assert corpus.broken == (f"{path}:3 has 2 cells, the first line 3",)


def test_every_kind_of_broken_line_has_its_sentence(write: Write) -> None:
    write("a.png", "")
    good = '{"image": "a.png", "caption": "a\u2028boat"}'
    bad = ["{", "[]", '{"caption": "x"}', '{"image": "a.png"}', '{"image": ["a.png"], "caption": "x"}']
    bad += ['{"image": "a.png", "captions": "x"}']
    path = write("captions.jsonl", "\n".join([good, *bad]))
    corpus = read(path)
    assert captions_of(corpus) == {"a.png#0": "a\u2028boat"}
    assert [each.removeprefix(f"{path}:") for each in corpus.broken] == [
        "2 is not JSON: Expecting property name enclosed in double quotes at column 2",
        "3 is no JSON object",
        "4 names no picture: one of image, file_name, filename, filepath, image_name, path, picture is wanted",
        "5 has no caption: one of caption, text, comment, sentence, raw, captions, texts, sentences is wanted",
        "6: `image` is no string",
        "7: `captions` is no list of strings",
    ]


def test_a_stray_quotation_mark_costs_its_own_row(write: Write) -> None:
    write("a.png", "")
    path = write("captions.csv", 'image,caption\na.png,"a" boat\na.png,a cat\n')
    corpus = read(path)
    assert list(captions_of(corpus).values()) == ["a cat"]
    assert corpus.broken == (f"{path}:2 cannot be read: ',' expected after '\"'",)


def test_karpathys_splits_are_read_with_the_folders_of_coco(tmp_path: Path, write: Write) -> None:
    write("val2014/a.jpg", "")
    write("moved/b.jpg", "")
    images = [
        {"filename": "a.jpg", "filepath": "val2014", "split": "test", "sentences": [{"raw": "a boat "}, {"raw": "b"}]},
        {"filename": "c.jpg", "filepath": "train2014", "split": "train", "sentences": [{"raw": "c"}]},
        {"filename": "d.jpg", "split": "test", "sentences": "d"},
    ]
    path = write("dataset_coco.json", json.dumps({"images": images}))
    corpus = read(tmp_path, split="test")
    assert captions_of(corpus) == {"a.jpg#0": "a boat", "a.jpg#1": "b"}
    assert corpus.documents[0].picture == str(tmp_path / "val2014" / "a.jpg")
    assert corpus.broken == (f"{path}: picture 1 of test has no `filename` or no list `sentences`",)
    with pytest.raises(InvalidRequest, match="no pictures of the split 'val'; it has: test, train"):
        read(path, split="val")
    images = [{"filename": "b.jpg", "filepath": "val2014", "split": "test", "sentences": [{"raw": "b"}]}]
    moved = read(write("dataset_moved.json", json.dumps({"images": images})), images=tmp_path / "moved")
    assert moved.documents[0].picture == str(tmp_path / "moved" / "b.jpg")


def test_texts_beside_pictures_are_captions_and_pictures_alone_are_told(tmp_path: Path, write: Write) -> None:
    for name in ("x/a.jpg", "x/b.jpg", ".hidden/c.jpg"):
        write(name, "")
    write("x/a.txt", "a boat\n\n red\n")
    corpus = read(tmp_path)
    assert captions_of(corpus) == {"x/a.jpg#0": "a boat", "x/a.jpg#1": "red"}
    assert corpus.remarks == ("1 pictures without a .txt beside them were left out",)


def test_pictures_that_are_missing_end_it_with_the_option_that_helps(write: Write) -> None:
    with pytest.raises(InvalidRequest, match=r"1 of 1 pictures are not there.*--images"):
        read(write("captions.csv", "image,caption\ngone.png,x\n"))


# ---- judgements of one's own


def judged(write: Write, qrels: str, name: str = "qrels.tsv") -> Path:
    write("p.png", "")
    write(
        "mixed_corpus.jsonl",
        [
            {"corpus_id": "d1", "text": "a boat", "image": ""},
            {"corpus_id": "d2", "text": "", "image": "p.png"},
            {"corpus_id": 3, "text": "both", "image": "p.png"},
        ],
    )
    write("queries.jsonl", [{"query_id": "q1", "text": "boat"}, {"query_id": "q2", "image": "p.png"}])
    return write(name, qrels).parents[1 if "/" in name else 0]


@pytest.mark.parametrize(
    ("name", "qrels"),
    [
        ("qrels.tsv", "query_id\tcorpus_id\tscore\nq1\td1\t2\nq1\td2\t1\nq1\t3\t0\nq2\t3\t1\n"),
        ("qrels/test.tsv", "q1 0 d1 2\nq1 0 d2 1\nq1 0 3 0\nq2 0 3 1\n"),
    ],
)
def test_corpora_of_mixbench_and_trec_are_read_with_their_gains(write: Write, name: str, qrels: str) -> None:
    corpus = read(judged(write, qrels, name))
    assert {each.id: each.modality.value for each in corpus.documents} == {
        "d1": "text",
        "d2": "image",
        "3": "image_text",
    }
    assert {each.id: each.relevant for each in corpus.queries} == {"q1": {"d1": 2.0, "d2": 1.0}, "q2": {"3": 1.0}}
    assert [dict(each.relevant) for each in queries_of(corpus, Direction.TEXT_TO_IMAGE)] == [{"d2": 1.0}]
    assert (corpus.remarks, corpus.broken) == ((), ())


def test_broken_judgements_are_told_and_unknown_documents_count_as_not_found(write: Write) -> None:
    folder = judged(write, "q1\td1\t1\nq1\tgone\t1\nq1\td2\nq9\td1\t1\nq1\td2\tnan\n")
    corpus = read(folder)
    assert [dict(each.relevant) for each in corpus.queries] == [{"d1": 1.0, "gone": 1.0}]
    assert corpus.remarks == (
        "1 judgements name documents that are not in the corpus: they count as not found",
        "1 queries were not asked: qrels.tsv has nothing that answers them",
    )
    assert [each.removeprefix(f"{folder}/qrels.tsv:") for each in corpus.broken] == [
        "3 is no judgement: query, document and score are wanted",
        "4 judges the query 'q9', which is not there",
        "5 is no judgement: query, document and score are wanted",
    ]


def test_an_id_that_stands_twice_is_broken_the_second_time(write: Write) -> None:
    folder = judged(write, "q1\td1\t1\n")
    write(
        "mixed_corpus.jsonl",
        [{"id": "d1", "text": "a boat"}, {"id": "d1", "text": "a cat"}, {"text": "x"}, {"id": "e"}],
    )
    corpus = read(folder)
    assert captions_of(corpus) == {"d1": "a boat"}
    assert [each.partition("jsonl:")[2] for each in corpus.broken] == [
        "2: the id 'd1' stands there twice",
        "3 has no id: one of _id, id, corpus_id, corpus-id, did is wanted",
        "4 has neither `text` nor `image`",
    ]


def test_a_query_that_is_a_document_may_not_answer_itself_and_a_namesake_may(write: Write) -> None:
    write("corpus.jsonl", [{"_id": "1", "title": "On", "text": "boats"}, {"_id": "2", "text": "cats"}])
    write("queries.jsonl", [{"_id": "1", "text": "boats"}, {"_id": "2", "text": "dogs"}])
    corpus = read(write("qrels.tsv", "1\t2\t1\n2\t2\t1\n").parent)
    assert [each.itself for each in corpus.queries] == ["1", None]
    assert corpus.documents[0].text == "On boats"


def test_where_every_row_is_broken_the_first_is_the_error(write: Write) -> None:
    with pytest.raises(InvalidRequest, match=r"captions.csv:2 names no picture"):
        read(write("captions.csv", "photo,caption\na.png,x\nb.png,y\n"))
    with pytest.raises(InvalidRequest, match=r"qrels.tsv:1 judges the query 'x'"):
        read(judged(write, "x\td1\t1\n"))


# ---- classes, kinds, samples


def test_a_folder_is_a_class_and_may_be_named(tmp_path: Path, write: Write) -> None:
    for name in ("n01/a.png", "sea_lion/b.png", "sea_lion/deep/c.png", "empty/notes.md"):
        write(name, "")
    write("classes.json", '{"n01": "tench"}')
    assert kind_of(tmp_path) is CorpusKind.CLASSES
    corpus = read_corpus(tmp_path, CorpusKind.CLASSES, images=None, split="test")
    assert isinstance(corpus, LabelledPictures)
    assert {name: len(paths) for name, paths in corpus.classes.items()} == {"tench": 1, "sea lion": 2}


def test_one_class_is_no_choice_and_two_of_one_name_are_an_error(tmp_path: Path, write: Write) -> None:
    write("a_b/a.png", "")
    with pytest.raises(InvalidRequest, match="holds 1 folders of pictures"):
        read_corpus(tmp_path, CorpusKind.CLASSES, images=None, split="test")
    write("a b/a.png", "")
    with pytest.raises(InvalidRequest, match="two folders are called 'a b'"):
        read_corpus(tmp_path, CorpusKind.CLASSES, images=None, split="test")


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("x.json", "{}", CorpusKind.KARPATHY),
        ("x.tsv", "", CorpusKind.CAPTIONS),
        ("x.jsonl", '{"image": "a.png", "text": "x"}', CorpusKind.CAPTIONS),
        ("x.jsonl", '{"text": "x", "relevant": []}', CorpusKind.QUERIES),
        ("x.jsonl", '{"image": {"uri": "a"}, "text": "x", "relevant": []}', CorpusKind.QUERIES),
    ],
)
def test_a_file_tells_what_it_is(write: Write, name: str, text: str, kind: CorpusKind) -> None:
    assert kind_of(write(name, text)) is kind


def test_what_is_no_corpus_is_told_what_would_be_one(tmp_path: Path, write: Write) -> None:
    write("notes.md", "")
    with pytest.raises(InvalidRequest, match=r"is no corpus: there is no corpus\.jsonl"):
        kind_of(tmp_path)
    with pytest.raises(InvalidRequest, match=r"\.md is not \.json"):
        kind_of(tmp_path / "notes.md")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        kind_of(tmp_path / "gone")


def test_a_sample_of_the_queries_is_the_same_for_a_seed_and_keeps_all_documents(write: Write) -> None:
    write("a.png", "")
    rows = "".join(f"a.png,text {number}\n" for number in range(50))
    corpus = read(write("captions.csv", f"image,caption\n{rows}"))
    some = limited(corpus, 10, seed=1)
    assert len(some.queries) == 10
    assert (some.queries, some.documents) == (limited(corpus, 10, seed=1).queries, corpus.documents)
    assert some.queries != limited(corpus, 10, seed=2).queries
    assert "10 of 51 queries were asked" in some.remarks[-1]
