"""Arrays and tables that somebody brings: what is accepted, and what is said of the rest."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from trainyard.data import labelled_arrays
from trainyard.errors import ConfigError

N = 12
X = np.arange(N * 4, dtype=np.float32).reshape(N, 4)
Y = np.arange(N) % 3


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that files can be named without their folder."""
    monkeypatch.chdir(tmp_path)


def frame(x: Any = X, y: Any = Y) -> pd.DataFrame:
    return pd.DataFrame(np.asarray(x), columns=list("abcd")[: np.asarray(x).shape[1]]).assign(label=np.asarray(y))


def csv(name: str = "t.csv", x: Any = X, y: Any = Y) -> str:
    Path(name).parent.mkdir(exist_ok=True)
    frame(x, y).to_csv(name, index=False)
    return name


def parquet(name: str = "t.parquet", x: Any = X, y: Any = Y) -> str:
    Path(name).parent.mkdir(exist_ok=True)
    frame(x, y).to_parquet(name, engine="fastparquet", index=False)
    return name


def npz(name: str = "t.npz", x: Any = X, y: Any = Y) -> str:
    Path(name).parent.mkdir(exist_ok=True)
    np.savez(name, x=np.asarray(x), y=np.asarray(y))
    return name


WRITERS = [csv, parquet, npz]
ways = pytest.mark.parametrize("write", WRITERS)
Write = Callable[..., str]


def text(content: str, name: str = "t.csv") -> str:
    Path(name).write_text(content)
    return name


def refusal(uri: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        labelled_arrays(uri, **options)
    return str(caught.value)


def changed(array: Any, position: Any, value: Any) -> Any:
    copy = np.array(array)
    copy[position] = value
    return copy


@ways
def test_every_kind_gives_the_same(write: Write) -> None:
    got = labelled_arrays(write())
    assert got.features.dtype == np.float32
    assert got.labels.dtype == np.int64
    assert np.array_equal(got.features, X)
    assert np.array_equal(got.labels, Y)
    assert (got.classes, got.class_names) == (3, ("0", "1", "2"))


@ways
def test_names_of_classes_are_numbered_in_sorted_order(write: Write) -> None:
    got = labelled_arrays(write(y=np.array(["dog", "cat", " NA "] * 4)))
    assert got.class_names == ("NA", "cat", "dog")
    assert got.labels[:3].tolist() == [2, 1, 0]


@ways
def test_a_directory_is_joined_in_the_order_of_its_names(write: Write) -> None:
    ending = write().removeprefix("t")
    write(f"d/b{ending}", X[5:], Y[5:])
    write(f"d/a{ending}", X[:5], Y[:5])
    Path("d/.hidden").write_text("")
    Path(f"d/a{ending}.dvc").write_text("")
    got = labelled_arrays("d")
    assert np.array_equal(got.features, X)
    assert np.array_equal(got.labels, Y)
    assert got.statistics["files"] == 2


def test_columns_of_later_files_are_found_by_name() -> None:
    csv("d/1.csv")
    frame()[["label", "d", "c", "b", "a"]].to_csv("d/2.csv", index=False)
    assert np.array_equal(labelled_arrays("d").features, np.concatenate([X, X]))


def test_a_csv_longer_than_what_is_read_at_once_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.data.tables._ROWS_AT_ONCE", 5)
    assert np.array_equal(labelled_arrays(csv()).features, X)
    assert "t.csv: row 8, column b" in refusal(csv(x=changed(X, (7, 1), np.nan)))


@pytest.mark.parametrize(("inputs", "labels"), [("x", "y"), ("features", "labels"), ("images", "y")])
def test_arrays_of_an_npz_have_one_of_several_names(inputs: str, labels: str) -> None:
    np.savez_compressed("t.npz", **{inputs: X, labels: Y, "note": np.array("more is fine")})
    assert np.array_equal(labelled_arrays("t.npz").features, X)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float16, np.float64])
def test_numbers_of_any_type_become_float32(kind: Any) -> None:
    assert np.array_equal(labelled_arrays(npz(x=X.astype(kind))).features, X)


@ways
@pytest.mark.parametrize("kind", [float, np.uint8, str])
def test_class_numbers_may_be_of_any_type(write: Write, kind: Any) -> None:
    assert np.array_equal(labelled_arrays(write(y=Y.astype(kind))).labels, Y)


def test_yes_and_no_are_class_numbers() -> None:
    assert labelled_arrays(npz(y=Y == 1)).labels.tolist() == (Y == 1).astype(int).tolist()


@ways
@pytest.mark.parametrize("shape", [(4,), (2, 2), (1, 2, 2)])
def test_flat_examples_are_brought_to_the_shape(write: Write, shape: tuple[int, ...]) -> None:
    assert np.array_equal(labelled_arrays(write(), shape=shape).features, X.reshape(-1, *shape))


@pytest.mark.parametrize("found", [(2, 2), (1, 2, 2), (2, 2, 1)])
def test_axes_of_length_1_are_added_and_taken_away(found: tuple[int, ...]) -> None:
    got = labelled_arrays(npz(x=X.reshape(-1, *found)), shape=(1, 2, 2))
    assert np.array_equal(got.features, X.reshape(-1, 1, 2, 2))


@pytest.mark.parametrize(
    ("write", "options", "said"),
    [
        (csv, {"shape": (1, 8, 8)}, "t.csv: an example has shape (4,) (4 columns beside label), expected (1, 8, 8)"),
        (npz, {"shape": (5,)}, "t.npz: an example has shape (4,), expected (5,)"),
        (lambda: npz(x=X.reshape(N, 1, 4)), {"shape": (2, 2)}, "t.npz: an example has shape (1, 4), expected (2, 2)"),
        (lambda: npz(x=X.reshape(N, 2, 2), y=Y), {"shape": (4,)}, "an example has shape (2, 2), expected (4,)"),
    ],
)
def test_another_shape_is_named_beside_the_expected_one(write: Write, options: Any, said: str) -> None:
    assert said in refusal(write(), **options)


def test_files_of_different_shapes_are_refused() -> None:
    npz("d/1.npz")
    npz("d/2.npz", x=X[:, :3])
    assert refusal("d") == "d/2.npz: an example has shape (3,), in the files before it (4,)"


def test_files_with_different_columns_are_refused() -> None:
    csv("d/1.csv")
    csv("d/2.csv", x=X[:, :3])
    assert refusal("d") == "d/2.csv: column d is not in every file; all must have the same columns"


@ways
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_counted_and_the_first_is_named(write: Write, value: float) -> None:
    x = changed(X.astype(float), (3, 2), value)
    place = "t.npz: x[3]" if write is npz else f"{write()}: row 4, column c"
    assert refusal(write(x=x)).endswith(
        f": 1 value is missing, NaN or infinite as float32, first at {place}; fill them, or leave such examples out"
    )
    assert "3 values are missing" in refusal(write(x=changed(x, (5, [0, 1]), value)))


def test_a_value_far_into_the_data_is_found_where_it_is() -> None:
    x = np.zeros((3000, 100), dtype=np.float32)
    assert "first at t.npz: x[2900]; " in refusal(npz(x=changed(x, (2900, 5), np.nan), y=np.arange(3000) % 2))


def test_an_empty_cell_counts_as_missing() -> None:
    assert "1 value is missing, NaN or infinite as float32, first at t.csv: row 2, column a" in refusal(
        text("a,label\n1,0\n,1\n" + "1,0\n" * 9)
    )


@pytest.mark.parametrize(
    ("cell", "said"),
    [("abc", "'abc'"), ("1.2.3", "'1.2.3'"), ('"1,5"', "'1,5'"), ("2026-01-02", "'2026-01-02'")],
)
def test_a_cell_that_is_no_number_is_named(cell: str, said: str) -> None:
    content = "a,b,label\n" + "1,1,0\n1,2,1\n" * 6 + f"1,{cell},0\n"
    assert refusal(text(content)) == f"t.csv: row 13: column b is {said}; must be a number"


def test_a_date_in_a_parquet_is_no_number() -> None:
    frame().assign(d=np.array(["2026-01-02"] * N, dtype="datetime64[ns]")).to_parquet(
        "t.parquet", engine="fastparquet", index=False
    )
    assert refusal("t.parquet") == "t.parquet: row 1: column d is '2026-01-02 00:00:00'; must be a number"


def test_the_index_of_a_parquet_is_no_feature() -> None:
    frame().set_index(np.arange(N) + 100).to_parquet("t.parquet", engine="fastparquet", index=True)
    assert np.array_equal(labelled_arrays("t.parquet").features, X)


@ways
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (changed(Y.astype(float), 4, 0.5), "the label 0.5 is not whole; class numbers are 0, 1, 2 and so on"),
        (changed(Y, 4, -2), "the label -2 is negative; class numbers are 0, 1, 2 and so on"),
        (changed(Y, 4, 2**40), "is too large for a class number"),
        (changed(Y.astype(float), 4, np.nan), "the label is missing"),
        (changed(Y.astype("U5"), 4, ""), "the label is missing"),
        (
            changed(Y.astype("U5"), 4, "O"),
            "the label O is a name, while others are numbers: make all of them one or the other",
        ),
    ],
)
def test_a_wrong_label_is_named_with_its_place(write: Write, labels: Any, said: str) -> None:
    place = "t.npz: x[4]: " if write is npz else f"{write()}: row 5: "
    message = refusal(write(y=labels))
    assert message.startswith(place)
    assert said in message


@ways
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (Y + 1, "labels are 1, 2, 3: class numbers must be 0, 1, 2 and so on, and 0 is missing"),
        (Y * 2, "labels are 0, 2, 4: class numbers must be 0, 1, 2 and so on, and 1 is missing"),
        (np.arange(N) * 2, "labels are 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, ...: class numbers"),
        (Y * 0, "every label is 0; at least two classes are needed"),
        (np.array(["cat"] * N), "every label is cat; at least two classes are needed"),
    ],
)
def test_labels_that_are_no_classes_are_refused(write: Write, labels: Any, said: str) -> None:
    assert f"{write()}: {said}" in refusal(write(y=labels))


def test_files_with_numbers_and_files_with_names_do_not_mix() -> None:
    csv("d/1.csv")
    csv("d/2.csv", y=["cat", "dog"] * 6)
    csv("e/1.csv", y=["cat", "dog"] * 6)
    csv("e/2.csv")
    assert refusal("d").startswith("d/2.csv: row 1: the label cat is a name, while earlier ones are numbers")
    assert refusal("e").startswith("e/2.csv: row 1: the label 0 is a number, while earlier ones are names")


@ways
def test_too_few_examples_are_refused(write: Write) -> None:
    assert "has 9 examples; at least 10 are needed" in refusal(write(x=X[:9], y=Y[:9]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "t.csv: the file is empty"),
        ("\n\n", "t.csv: is no csv that can be read: No columns to parse"),
        ("a,label\n", "t.csv: has no rows"),
        ("a,b\n1,2\n", "t.csv: has no column label; its columns: a, b"),
        ("a;b;label\n1;2;0\n", "t.csv: has no column label; its columns: a;b;label"),
        (",".join(f"c{i}" for i in range(13)) + "\n", "c8, c9 and 3 more"),
        ("label\n1\n", "t.csv: has no column beside label"),
        (",a,label\n0,1,2\n", "t.csv: column 1 has no name; if it numbers the rows, leave it out"),
        ("a,label,label\n1,2,3\n", "t.csv: has several columns label"),
        ("a,label\n1,2,3\n1,2,3\n", "t.csv: is no csv that can be read: "),
        (
            "a,label\n1,2\n1,2,3\n",
            "t.csv: is no csv that can be read: Error tokenizing data. C error: Expected 2 fields in line 3",
        ),
        ('a,label\n1,"2\n', "t.csv: is no csv that can be read: Error tokenizing data. C error: EOF inside string"),
    ],
)
def test_what_is_no_table_is_refused(content: str, said: str) -> None:
    assert said in refusal(text(content))


def test_bytes_that_are_no_text_are_refused() -> None:
    Path("t.csv").write_bytes(b"a,label\n\xff,1\n")
    assert "t.csv: is no csv that can be read: 'utf-8' codec can't decode byte 0xff" in refusal("t.csv")


@pytest.mark.parametrize("content", [b"nothing", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_a_damaged_parquet_is_refused(content: bytes) -> None:
    Path("t.parquet").write_bytes(content)
    assert refusal("t.parquet").startswith("t.parquet: is no parquet that can be read: ")


def test_a_parquet_without_labels_or_rows_is_refused() -> None:
    frame()[["a"]].to_parquet("t.parquet", engine="fastparquet", index=False)
    assert refusal("t.parquet") == "t.parquet: has no column label; its columns: a"
    parquet(x=X[:0], y=Y[:0])
    assert refusal("t.parquet") == "t.parquet: has no rows"


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": X, "b": Y}, "t.npz: holds a, b; must have one array called x or features or images"),
        (
            {"x": X, "images": X, "y": Y},
            "t.npz: holds x, images, y; must have one array called x or features or images",
        ),
        ({"x": X}, "t.npz: holds x; must have one array called y or labels"),
        ({}, "t.npz: holds nothing; must have"),
        ({"x": X.astype(str), "y": Y}, "t.npz: array x is of type <U32; must be numbers"),
        ({"x": X[:, 0], "y": Y}, "t.npz: array x has shape (12,); must be (examples, ...)"),
        ({"x": X, "y": Y[:5]}, "t.npz: array y has shape (5,); must be (12,), a label for each of x"),
        ({"x": X, "y": np.eye(N)}, "t.npz: array y has shape (12, 12); must be (12,), a label for each of x"),
        ({"x": X[:0], "y": Y[:0]}, "t.npz: array x is empty, it has shape (0, 4)"),
        ({"x": X, "y": Y.astype(complex)}, "labels are of type complex128; must be class numbers or names"),
    ],
)
def test_wrong_arrays_are_named(arrays: dict[str, Any], said: str) -> None:
    np.savez("t.npz", **arrays)
    assert said in refusal("t.npz")


def test_an_npz_that_is_none_is_refused() -> None:
    Path("t.npz").write_bytes(b"PK\x03\x04 and then nothing")
    assert refusal("t.npz").startswith("t.npz: is no .npz that can be read: ")
    Path("t.npz").write_bytes(b"text")
    assert refusal("t.npz").startswith("t.npz: is no .npz that can be read: ")
    with Path("t.npz").open("wb") as file:
        np.save(file, X)
    assert refusal("t.npz") == "t.npz: is a single array; write it with numpy.savez(FILE, x=..., y=...)"
    np.savez("t.npz", x=np.array([object()]), y=Y)
    assert refusal("t.npz").startswith("t.npz: is no .npz that can be read: Object arrays cannot be loaded")


@pytest.mark.parametrize(
    ("files", "uri", "said"),
    [
        ([], "none.csv", "none.csv: there is no file or directory /"),
        (["t.json"], "t.json", "t.json: the name must end in .npz or .csv or .parquet"),
        (["d/a.csv", "d/b.npz"], "d", "d: holds a.csv and b.npz; all files must be of one kind"),
        (["d/a.csv", "d/README.md"], "d", "d/README.md: the name must end in .npz or .csv or .parquet"),
        (["d/.a.csv"], "d", "d: the directory is empty"),
        (["d/e/a.csv"], "d", "d: holds the directory e; put all files into d itself"),
        ([], "gs://b/k", "gs://b/k: must be a file, a directory or s3://BUCKET/KEY"),
    ],
)
def test_files_that_cannot_be_read_as_one_data_set(files: list[str], uri: str, said: str) -> None:
    for name in files:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("something")
    assert said in refusal(uri)


def test_statistics_are_small_and_go_into_json() -> None:
    statistics = json.loads(json.dumps(labelled_arrays(csv()).statistics))
    assert statistics == {
        "source": "t.csv",
        "files": 1,
        "examples": N,
        "shape": [4],
        "examples_per_class": {"0": 4, "1": 4, "2": 4},
        "features": {"mean": X.mean(), "std": pytest.approx(X.std()), "min": 0, "max": 47},
    }


def test_statistics_of_many_numbers_are_exact() -> None:
    x = np.random.default_rng(0).normal(1e4, 1, size=(3000, 700)).astype(np.float32)
    found = labelled_arrays(npz(x=x, y=np.arange(3000) % 2)).statistics["features"]
    assert found["mean"] == pytest.approx(x.mean(dtype=np.float64), rel=1e-12)
    assert found["std"] == pytest.approx(x.std(dtype=np.float64), rel=1e-9)


@pytest.mark.parametrize("files", [1, 4])
def test_memory_holds_the_data_once_and_a_part(files: int) -> None:
    x = np.zeros((4000, 500), dtype=np.float32)  # 8 MB
    for number in range(files):
        npz(f"d/{number}.npz", x=x, y=np.arange(4000) % 2)
    tracemalloc.start()
    labelled_arrays("d")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # numpy says what it reserves: of several files, the joined array and, at its beginning, every part.
    assert peak < x.nbytes * (1.5 if files == 1 else 2.2 * files)
