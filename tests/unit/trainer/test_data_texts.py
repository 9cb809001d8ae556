"""Texts that somebody brings: what is accepted, and what is said of the rest."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from trainyard.data import corpus, labelled_texts
from trainyard.errors import ConfigError

TEXTS = ['a "quoted", text', "two\nlines", "NA", " spaces ", "ünï", *(f"text {number}" for number in range(7))]
LABELS = ["good", "bad"] * 6


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that files can be named without their folder."""
    monkeypatch.chdir(tmp_path)


def table(name: str, texts: Any = TEXTS, labels: Any = LABELS, **more: Any) -> str:
    frame = pd.DataFrame({"id": range(len(texts)), "text": texts, "label": labels, **more})
    Path(name).parent.mkdir(exist_ok=True)
    if name.endswith(".csv"):
        frame.to_csv(name, index=False)
    else:
        frame.to_parquet(name, engine="fastparquet", index=False)
    return name


def files(**contents: str | bytes) -> str:
    """A directory `d`; `__` stands for `/` and the ending is .txt."""
    for name, content in contents.items():
        path = Path("d") / f"{name.replace('__', '/')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return "d"


def refusal(uri: str) -> str:
    with pytest.raises(ConfigError) as caught:
        labelled_texts(uri)
    return str(caught.value)


def corpus_refusal(uri: str) -> str:
    with pytest.raises(ConfigError) as caught:
        corpus(uri)
    return str(caught.value)


tables = pytest.mark.parametrize("name", ["t.csv", "t.parquet"])


@tables
def test_a_table_is_read_as_it_stands(name: str) -> None:
    got = labelled_texts(table(name))
    assert list(got.texts) == TEXTS
    assert (got.class_names, got.classes) == (("bad", "good"), 2)
    assert got.labels.tolist() == [1, 0] * 6


def test_a_directory_of_tables_is_joined() -> None:
    table("d/2.csv", TEXTS[6:], LABELS[6:])
    table("d/1.csv", TEXTS[:6], LABELS[:6])
    assert list(labelled_texts("d").texts) == TEXTS


def test_a_directory_for_each_class_is_read_in_the_order_of_names() -> None:
    files(**{f"2021__{n}": f"new {n}\r\n" for n in range(5)}, **{f"2020__{n}": f"old {n}" for n in range(5)})
    got = labelled_texts("d")
    assert list(got.texts) == [f"old {n}" for n in range(5)] + [f"new {n}\n" for n in range(5)]
    assert got.class_names == ("2020", "2021"), "names that look like numbers are names"
    assert got.labels.tolist() == [0] * 5 + [1] * 5


@tables
@pytest.mark.parametrize("blank", ["", " \n", None])
def test_blank_texts_are_counted_and_the_first_is_named(name: str, blank: str | None) -> None:
    texts = [*TEXTS[:3], blank, *TEXTS[4:10], blank, "x"]
    assert refusal(table(name, texts)) == (
        f"{name}: 2 texts are missing or blank, first in {name}: row 4; leave such examples out"
    )


def test_a_text_that_is_a_number_is_refused_where_the_table_has_types() -> None:
    assert refusal(table("t.parquet", range(12))) == "t.parquet: row 1: column text is 0; must be a text"
    assert labelled_texts(table("t.csv", range(12))).texts[0] == "0"


@tables
def test_labels_are_checked(name: str) -> None:
    assert refusal(table(name, labels=[*LABELS[:11], ""])).startswith(f"{name}: row 12: the label is missing")
    assert refusal(table(name, labels=["good"] * 12)) == f"{name}: every label is good; at least two classes are needed"


@tables
def test_a_table_without_texts_is_refused(name: str) -> None:
    frame = pd.DataFrame({"txt": TEXTS, "label": LABELS})
    if name.endswith(".csv"):
        frame.to_csv(name, index=False)
    else:
        frame.to_parquet(name, engine="fastparquet", index=False)
    assert refusal(name) == f"{name}: has no column text; its columns: txt, label"


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"a": "x", "good__b": "y"}, "d/a.txt: lies beside the directories of the classes; move it into one of them"),
        (
            {"a": "x", "b": "y"},
            "d/a.txt: has no label; use a .csv or .parquet with columns text and label, or put .txt",
        ),
        ({"good__a": "x", "bad__deep__b": "y"}, "d/bad/deep: the directory of a class must hold .txt files only"),
        ({"good__a": "x", "bad__b": b"\xff"}, "d/bad/b.txt: byte 0 is not UTF-8; convert the file"),
        ({"good__a": "x", "bad__b": b"a\0"}, "d/bad/b.txt: has a zero character at 1; this is no text"),
        ({"good__a": "x", "bad__b": " \n"}, "d: 1 text is missing or blank, first in d/bad/b.txt"),
        ({"good__a": "x", "bad__b": ""}, "d/bad/b.txt: the file is empty"),
        ({"good__a": "x", "bad__b": "y"}, "d: has 2 examples; at least 10 are needed"),
        ({f"good__{n}": "x" for n in range(10)}, "d: every label is good; at least two classes are needed"),
    ],
)
def test_directories_that_are_no_data_set(contents: dict[str, str], said: str) -> None:
    assert refusal(files(**contents)).startswith(said)


def test_a_class_without_texts_is_refused() -> None:
    files(good__a="x")
    Path("d/bad").mkdir()
    assert refusal("d") == "d/bad: the directory of this class is empty"


def test_a_single_text_has_no_label() -> None:
    Path("t.txt").write_text("x")
    assert refusal("t.txt").startswith("t.txt: has no label; ")


def test_statistics_of_texts_are_small_and_go_into_json() -> None:
    statistics = json.loads(json.dumps(labelled_texts(table("t.csv", ["a"] * 11 + ["abc"])).statistics))
    assert statistics == {
        "source": "t.csv",
        "files": 1,
        "examples": 12,
        "examples_per_class": {"bad": 6, "good": 6},
        "characters": {"min": 1, "mean": pytest.approx(14 / 12), "median": 1, "max": 3},
    }


def test_a_corpus_is_one_text() -> None:
    Path("t.txt").write_bytes("\ufeffübung\r\nend".encode())
    got = corpus("t.txt")
    assert got.text == "übung\nend"
    assert got.statistics == {"source": "t.txt", "files": 1, "characters": 9, "different_characters": 8, "lines": 2}


def test_a_corpus_of_several_files_has_them_in_the_order_of_names_on_lines_of_their_own() -> None:
    assert corpus(files(b="second\n", a="first", c="third")).text == "first\nsecond\nthird"


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"a": "x", "b": " \n "}, "d/b.txt: the text is blank"),
        ({"a": "x", "b": ""}, "d/b.txt: the file is empty"),
        ({"a": b"\xff\xfe"}, "d/a.txt: byte 0 is not UTF-8"),
        ({"a": b"x\0"}, "d/a.txt: has a zero character at 1"),
        ({"a__b": "x"}, "d: holds the directory a; put all files into d itself"),
    ],
)
def test_what_is_no_corpus_is_refused(contents: dict[str, str], said: str) -> None:
    assert corpus_refusal(files(**contents)).startswith(said)


def test_a_corpus_is_no_table() -> None:
    assert corpus_refusal(table("t.csv")) == "t.csv: the name must end in .txt"
