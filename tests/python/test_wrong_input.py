"""What a new user gets wrong, on the command line and over HTTP: each is refused with field, value and limit, and nothing is half done."""

import json
import socket
import subprocess
import urllib.error
import urllib.request

import numpy as np
import pytest
from conftest import binary, free_ports

COLLECTION = "wrong-input"
GOOD = [1.0, 2.0, 3.0, 4.0]


def call(url, method, path, body):
    """Status and error text (or the answer, where there is none) of a request with this body, as it stands."""
    request = urllib.request.Request(f"{url}{path}", body.encode(), {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["status"]["error"]


def count(url):
    return call(url, "POST", f"/collections/{COLLECTION}/points/count", "{}")[1]["result"]["count"]


@pytest.fixture(scope="module")
def url(cluster):
    """HTTP of a cluster with one collection of four components that holds one point."""
    created = call(cluster, "PUT", f"/collections/{COLLECTION}", '{"vectors": {"size": 4, "distance": "Cosine"}}')
    assert created[0] == 200, created
    written = call(cluster, "PUT", f"/collections/{COLLECTION}/points", json.dumps({"points": [{"id": 1, "vector": GOOD}]}))
    assert written[0] == 200, written
    yield cluster
    call(cluster, "DELETE", f"/collections/{COLLECTION}", "")


def points(*vectors):
    return json.dumps({"points": [{"id": 100 + at, "vector": vector} for at, vector in enumerate(vectors)]})


HTTP = [
    # Searches: (method, path, body), status, what is said.
    ("POST", "points/query", '{"query": [1, 2, 3]}', 400, ["query: 3 dimensions, the collection has 4"]),
    ("POST", "points/query", '{"query": [NaN, 2, 3, 4]}', 400, ["body: malformed JSON", "column"]),
    ("POST", "points/query", '{"query": [1e39, 2, 3, 4]}', 400, ["query[0]: 1e+39 is not a finite number"]),
    ("POST", "points/query", '{"query": [1, 2, 3, 4], "limit": 10001}', 400, ["limit: 10001 hits, at most 10000"]),
    ("POST", "points/query", '{"query": [1, 2, 3, 4], "limit": 1, "offset": 100000}', 400, ["offset + limit: 100001 hits, at most 100000"]),
    ("POST", "points/query", '{"query": [1, 2, 3, 4], "limit": -1}', 400, ["limit: -1 is not a whole number"]),
    ("POST", "points/query", '{"query": [1, 2, 3, 4], "limt": 1}', 400, ['unknown field "limt"', "known are", "limit"]),
    ("POST", "points/query", '{"query": [1, 2, 3, 4], "using": "title"}', 400, ['using: "title" is no vector']),
    ("POST", "points/query", '{"query": [1, 2, 3, 4', 400, ["body: malformed JSON", "line 1 column"]),
    ("POST", "points/query", '{"filter": {"must": [{"key": "a", "mach": 1}]}}', 400, ['filter.must[0]: unknown field "mach"']),
    ("POST", "points/scroll", '{"limit": 10001}', 400, ["limit: 10001 documents, at most 10000"]),
    ("POST", "facet", '{"key": "a"}', 400, ['key: "a" has no payload index', "keyword, uuid, integer or bool"]),
    ("POST", "facet", '{"key": "a", "limit": 0}', 400, ["limit: 0, must be at least 1"]),
    ("POST", "facet", '{"key": "a", "limit": 10001}', 400, ["limit: 10001 values, at most 10000"]),
    ("POST", "facet", json.dumps({"key": "a" * 200_000}), 400, ["key: 200000 bytes, at most 512"]),
    ("POST", "facet", '{"key": "a", "exact": "yes"}', 400, ["exact"]),
    ("POST", "facet", '{"limit": 1}', 400, ['field "key" is missing']),
    # Writes: the first document of each batch is good.
    ("PUT", "points", points(GOOD, [1, 2, 3]), 400, ["points[1].vector: 3 dimensions, the collection has 4"]),
    ("PUT", "points", points(GOOD, [1, 2, 3, None]), 400, ["points[1].vector[3]: null is not a number"]),
    ("PUT", "points", points(GOOD, GOOD).replace("4.0]}]", "1e39]}]"), 400, ["points[1].vector[3]: 1e+39 is not a finite number"]),
    ("PUT", "points", points(GOOD, {"title": GOOD}), 400, ['points[1].vector: "title" is no vector of the collection']),
    ("PUT", "points", points(GOOD, "text"), 400, ["points[1].vector", "text"]),
    ("PUT", "points", points(GOOD).replace('"id": 100', '"id": -1'), 400, ["points[0].id: -1 is not a whole number"]),
    ("PUT", "points", json.dumps({"points": [{"id": 1, "vector": GOOD, "payload": {"a": "x" * 2**20}}]}), 400, ["points[0].payload: 10485", "at most 1048576"]),
    ("PUT", "points", points(*[GOOD] * 10_001), 400, ["points: 10001 documents, at most 10000"]),
    ("PUT", "points", '{"pointz": []}', 400, ['unknown field "pointz"', "known are points"]),
    ("PUT", "points?timeout=soon", points(GOOD), 400, ['timeout: "soon" is no number of seconds']),
    ("GET", "points/99", "", 404, ["point 99: not found"]),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "said"), HTTP, ids=range(len(HTTP)))
def test_http_names_field_value_and_limit_and_writes_nothing(url, method, path, body, status, said):
    answered, error = call(url, method, f"/collections/{COLLECTION}/{path}", body)
    assert answered == status, error
    for text in said:
        assert text in error
    assert count(url) == 1, "nothing of it was written"


@pytest.mark.parametrize(
    ("name", "body", "status", "said"),
    [
        ("other", '{"vectors": {"size": 0, "distance": "Cosine"}}', 400, "vectors.size: 0, must be 1..=8192"),
        ("other", '{"vectors": {"size": 8193, "distance": "Cosine"}}', 400, "vectors.size: 8193, must be 1..=8192"),
        ("other", '{"vectors": {"size": 4, "distance": "Cosinus"}}', 400, 'vectors.distance: "Cosinus" is not one of Cosine'),
        (COLLECTION, '{"vectors": {"size": 4, "distance": "Cosine"}}', 409, f'collection "{COLLECTION}" exists'),
    ],
)
def test_a_collection_that_cannot_be_is_refused(url, name, body, status, said):
    answered, error = call(url, "PUT", f"/collections/{name}", body)
    assert (answered, said in error) == (status, True), error


def test_an_unknown_collection_is_named(url):
    for method, path, body in [("POST", "points/query", '{"query": [1]}'), ("PUT", "points", points(GOOD)), ("POST", "points/scroll", "{}")]:
        assert call(url, method, f"/collections/nope/{path}", body) == (404, 'collection "nope" does not exist')


@pytest.fixture
def granum(url, tmp_path):
    """Runs the command line in a folder of its own; exit code and what it said on stderr."""
    host, port = url.rsplit(":", 1)

    def run(*words):
        command = [binary(), *words]
        if words[0] not in ("dev", "node", "coordinator"):
            command += ["--url", f"{host}:{int(port) + 1}"]
        done = subprocess.run(command, cwd=tmp_path, env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert "panicked" not in done.stderr
        return done.returncode, done.stderr

    return run


CLI = [
    (["search", COLLECTION, "--vector", "[1, 2, 3]"], 1, ["query.nearest: 3 dimensions, the collection has 4"]),
    (["search", COLLECTION, "--vector", "[NaN, 2, 3, 4]"], 2, ['--vector: "[NaN, 2, 3, 4]" is no list of numbers']),
    (["search", COLLECTION, "--vector", "[1, 2, 3, 4]", "--limit", "10001"], 1, ["limit: 10001 hits, at most 10000"]),
    (["search", COLLECTION, "--vector", "[1, 2, 3, 4]", "--using", "title"], 1, ['using: "title" is no vector']),
    (["search", COLLECTION, "some text"], 1, ["embedder"]),
    (["search", "nope", "--vector", "[1]"], 1, ['collection "nope" does not exist']),
    (["get", COLLECTION, "nobody"], 1, ["nobody"]),
    (["facet", COLLECTION, "a"], 1, ['key: "a" has no payload index', "keyword, uuid, integer or bool"]),
    (["facet", COLLECTION, "a", "--limit", "0"], 2, ["0 is not in"]),
    (["facet", COLLECTION, "a", "--filter", "b ="], 2, ["filter, column 4: expected a value"]),
    (["collection", "create", "other", "--vector", "8193"], 1, ["8193, must be 1..=8192"]),
    (["collection", "create", "other", "--vector", "4", "--shards", "257"], 1, ["shards: 257, at most 256"]),
    (["collection", "create", "other", "--vector", "4", "--replication-factor", "4"], 1, ["replication_factor: 4", "3 nodes"]),
    (["collection", "create", "a/b", "--vector", "4"], 1, ['"a/b"', "letters, digits"]),
]


@pytest.mark.parametrize(("words", "code", "said"), CLI, ids=range(len(CLI)))
def test_the_command_line_names_field_value_and_limit(granum, words, code, said):
    ended, errors = granum(*words)
    assert ended == code, errors
    for text in said:
        assert text in errors


def test_an_import_tells_what_is_wrong_by_line_and_row(granum, url, tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"id": 201}\n{"id": 202}\n{"id": 203}\n')
    (tmp_path / "bad.jsonl").write_text('{"id": 201}\n{"id": 202, "a":\n{"id": 203}\n')
    vectors = np.ones((3, 4), "f4")
    np.save(tmp_path / "good.npy", vectors)
    np.save(tmp_path / "wide.npy", np.ones((3, 8), "f4"))
    np.save(tmp_path / "short.npy", vectors[:2])
    np.save(tmp_path / "whole.npy", np.ones((3, 4), "i4"))
    vectors[1, 2] = np.nan
    np.save(tmp_path / "nan.npy", vectors)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:-7])

    def refused(file, npy, *said, more=()):
        code, errors = granum("import", file, "--collection", COLLECTION, "--vectors", npy, "--restart", *more)
        assert code != 0, f"{file} with {npy} was taken"
        for text in said:
            assert text in errors

    before = count(url)
    refused("lines.jsonl", "wide.npy", "rows of 8 components", "of 4 components")
    refused("lines.jsonl", "cut.npy", "cut.npy: 169 bytes", "176 bytes", "cut off")
    refused("lines.jsonl", "whole.npy", "whole.npy", "<i4", "float16 or float32")
    refused("lines.jsonl", "title=good.npy", 'no vector field "title"')
    refused("lines.jsonl", "good.npy", "line 1", 'no field "nope"', more=("--id", "nope"))
    assert count(url) == before, "what is wrong as a whole writes nothing"
    refused("bad.jsonl", "good.npy", "line 2: not JSON", "column")
    refused("lines.jsonl", "nan.npy", "line 2: nan.npy: row 1, component 2: not a finite number")
    refused("lines.jsonl", "short.npy", "line 3: there are only 2 vectors")
    code, errors = granum("import", "bad.jsonl", "--collection", COLLECTION, "--vectors", "good.npy", "--restart", "--on-error", "skip")
    assert code == 0 and "line 2 skipped: not JSON" in errors
    assert count(url) == before + 3, "lines 1 and 3 of the bad file, and line 2 of those with too few vectors"


def test_a_taken_port_is_told_with_the_flag_that_changes_it(granum):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        address, free = f"127.0.0.1:{port}", free_ports(2)
        others = [f"--listen-grpc=127.0.0.1:{free}", f"--listen-metrics=127.0.0.1:{free + 1}"]
        for words, flag in [
            (["dev", "--data-dir", "d", "--port", str(port)], "--port"),
            (["node", "--data-dir", "n", "--listen-data", address], "--listen-data"),
            (["coordinator", "--nodes", "127.0.0.1:1", "--listen-http", address, *others], "--listen-http"),
        ]:
            code, errors = granum(*words)
            assert code == 1
            assert str(port) in errors and flag in errors
            assert errors.count("in use") == 1, errors
