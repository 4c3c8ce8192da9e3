"""The published Python client of Qdrant does its work against Granum, on real data, checked against numpy."""

import collections
import io
import json
import pathlib
import urllib.request
import uuid

import numpy as np
import pytest
import zstandard
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

SAMPLE = pathlib.Path(__file__).resolve().parents[2] / "client/cli/sample"
BATCH = 500


@pytest.fixture(scope="session")
def client(cluster):
    return QdrantClient(url=cluster, timeout=60)


@pytest.fixture(scope="session")
def sample():
    """The 5,000 packages and their vectors, rows x 384, f32."""
    with open(SAMPLE / "sample-5k.jsonl.zst", "rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
        documents = [json.loads(line) for line in lines]
    return documents, np.load(SAMPLE / "sample-5k.f16.npy").astype(np.float32)


@pytest.fixture(scope="session")
def packages(client, sample):
    """The sample as a collection; point ids are rows."""
    documents, vectors = sample
    client.create_collection("packages", vectors_config=models.VectorParams(size=384, distance=models.Distance.COSINE),
                             shard_number=3)
    for start in range(0, len(documents), BATCH):
        rows = range(start, min(start + BATCH, len(documents)))
        points = [models.PointStruct(id=row, vector=vectors[row].tolist(), payload=documents[row]) for row in rows]
        result = client.upsert("packages", points=points, wait=True)
        assert result.status == models.UpdateStatus.COMPLETED
    return "packages"


def exact(vectors, query, k, keep=None):
    """Scores of the k best rows by brute force, best first."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ (query / np.linalg.norm(query))
    if keep is not None:
        scores = scores[keep]
    return np.sort(scores)[::-1][:k]


def match(key, value):
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


@pytest.mark.parametrize("row", [0, 1234, 4999])
def test_the_ten_nearest_are_those_of_brute_force(client, packages, sample, row):
    _, vectors = sample
    query = vectors[row] + 0.01 * vectors[(row * 7 + 1) % 5000]
    points = client.query_points(packages, query=query.tolist(), limit=10).points
    np.testing.assert_allclose([point.score for point in points], exact(vectors, query, 10), atol=1e-3)


@pytest.mark.parametrize("section", ["games", "sound", "no such section"])
def test_a_filter_keeps_what_it_says_and_loses_nothing(client, packages, sample, section):
    documents, vectors = sample
    keep = np.array([document["section"] == section for document in documents])
    wanted = models.Filter(must=[match("section", section)])
    points = client.query_points(packages, query=vectors[7].tolist(), query_filter=wanted, limit=10, with_payload=True).points
    assert all(point.payload["section"] == section for point in points)
    np.testing.assert_allclose([point.score for point in points], exact(vectors, vectors[7], 10, keep), atol=1e-3)
    assert client.count(packages, count_filter=wanted).count == keep.sum()


def test_filters_combine(client, packages, sample):
    documents, _ = sample
    wanted = models.Filter(
        must=[models.FieldCondition(key="size", range=models.Range(gte=10_000, lt=1_000_000))],
        should=[match("tags", "interface::graphical"), models.FieldCondition(key="section", match=models.MatchAny(any=["games", "sound"]))],
        must_not=[match("priority", "optional")],
    )
    brute = sum(
        10_000 <= document["size"] < 1_000_000
        and ("interface::graphical" in document["tags"] or document["section"] in ("games", "sound"))
        and document["priority"] != "optional"
        for document in documents
    )
    assert client.count(packages, count_filter=wanted).count == brute


def test_scroll_visits_every_point_once_in_order(client, packages, sample):
    seen, offset = [], None
    while True:
        points, offset = client.scroll(packages, limit=777, offset=offset, with_payload=["title"], with_vectors=False)
        assert all(set(point.payload) <= {"title"} and point.vector is None for point in points)
        seen += [point.id for point in points]
        if offset is None:
            break
    assert seen == list(range(5000))


def test_points_come_back_as_written(client, packages, sample):
    documents, vectors = sample
    points = client.retrieve(packages, ids=[17, 4, 99_999], with_payload=True, with_vectors=True)
    assert [point.id for point in points] == [17, 4]
    assert [point.payload for point in points] == [documents[17], documents[4]]
    np.testing.assert_allclose(points[0].vector, vectors[17], atol=2e-3)


def test_search_by_the_id_of_a_point_leaves_that_point_out(client, packages, sample):
    _, vectors = sample
    points = client.query_points(packages, query=17, limit=5, with_vectors=True).points
    assert 17 not in [point.id for point in points]
    np.testing.assert_allclose(points[0].score, exact(vectors, vectors[17], 2)[1], atol=1e-3)


def test_offset_goes_on_where_the_limit_ended(client, packages, sample):
    _, vectors = sample
    all_ids = [point.id for point in client.query_points(packages, query=vectors[3].tolist(), limit=20).points]
    second = client.query_points(packages, query=vectors[3].tolist(), limit=10, offset=10).points
    assert [point.id for point in second] == all_ids[10:]


def test_a_collection_lives_and_dies(client):
    name = "short-lived"
    assert not client.collection_exists(name)
    client.create_collection(name, vectors_config={"title": models.VectorParams(size=2, distance=models.Distance.DOT),
                                                   "tokens": models.VectorParams(size=2, distance=models.Distance.DOT, multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM))},
                             sparse_vectors_config={"words": models.SparseVectorParams()})
    assert name in [collection.name for collection in client.get_collections().collections]
    key = str(uuid.UUID(int=7))
    client.upsert(name, points=[
        models.PointStruct(id=1, payload={"a": {"b": [1, 2]}}, vector={"title": [1.0, 2.0], "words": models.SparseVector(indices=[5, 9], values=[0.5, 2.0])}),
        models.PointStruct(id=key, payload={}, vector={"title": [3.0, -1.0], "tokens": [[1.0, 0.0], [0.0, 1.0]]}),
    ])
    info = client.get_collection(name)
    assert info.config.params.vectors["title"].size == 2 and "words" in info.config.params.sparse_vectors
    assert [(p.id, p.score) for p in client.query_points(name, query=[1.0, 1.0], using="title").points] == [(1, 3.0), (key, 2.0)]
    sparse = models.SparseVector(indices=[9], values=[2.0])
    assert [(p.id, p.score) for p in client.query_points(name, query=sparse, using="words").points] == [(1, 4.0)]
    assert [(p.id, p.score) for p in client.query_points(name, query=[[2.0, 1.0]], using="tokens").points] == [(key, 2.0)]
    client.upsert(name, points=[models.PointStruct(id=1, vector={"title": [0.0, 0.0]}, payload={"b": None})])
    assert client.retrieve(name, ids=[1])[0].payload == {"b": None}
    client.delete(name, points_selector=[1, 2])
    assert client.count(name).count == 1
    client.delete(name, points_selector=models.FilterSelector(filter=models.Filter(must=[models.HasIdCondition(has_id=[key])])))
    assert client.count(name).count == 0
    assert client.delete_collection(name)
    assert not client.collection_exists(name)


def test_an_answer_says_whether_it_is_certified(cluster, packages, sample):
    def ask(params):
        body = json.dumps({"query": sample[1][7].tolist(), "params": params}).encode()
        request = urllib.request.Request(f"{cluster}/collections/{packages}/points/query", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["result"]

    exact, certified = ask({"exact": True}), ask({"certified": True})
    assert exact["granum"]["certified"] is True and exact["granum"]["delta"] == 0
    assert certified["granum"]["certified"] is True and 0 <= certified["granum"]["delta"] < 0.01
    assert certified["points"] == exact["points"] and exact["granum"]["warnings"] == []


def check_facets(client, packages, documents):
    """Counts by value are those of a plain count; ties come in the order of values."""
    games = models.Filter(must=[match("section", "games")])
    for key, limit, wanted in [("section", 10, None), ("tags", 25, None), ("tags", 7, games), ("installed_size", 1000, None), ("installed_size", 3, games)]:
        counts = collections.Counter()
        for document in documents:
            if wanted is None or document.get("section") == "games":
                values = document.get(key)
                counts.update(set(values) if isinstance(values, list) else [] if values is None else [values])
        expected = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
        found = client.facet(packages, key=key, limit=limit, facet_filter=wanted, exact=True)
        assert [(hit.value, hit.count) for hit in found.hits] == expected, key
        about = client.facet(packages, key=key, limit=limit, facet_filter=wanted)
        assert len(about.hits) == len(expected) and all(hit.count <= counts[hit.value] for hit in about.hits), key


def test_payload_indexes_change_no_answer(client, packages, sample):
    documents, _ = sample
    near = models.GeoRadius(center=models.GeoPoint(lat=52.5, lon=13.4), radius=1000.0)
    filters = [
        models.Filter(must=[match("section", "games")]),
        models.Filter(must=[models.FieldCondition(key="installed_size", range=models.Range(gte=100, lt=1000))], must_not=[match("tags", "role::program")]),
        models.Filter(must=[models.FieldCondition(key="text", match=models.MatchText(text="chess game"))]),
        models.Filter(should=[models.FieldCondition(key="tags", match=models.MatchAny(any=["use::gameplaying", "use::editing"])), match("priority", "required")]),
        models.Filter(must=[models.FieldCondition(key="place", geo_radius=near)]),
    ]
    before = [client.count(packages, count_filter=wanted).count for wanted in filters]
    assert before[0] == sum(document.get("section") == "games" for document in documents) and before[4] == 0
    assert client.get_collection(packages).payload_schema == {}
    for key, schema in {
        "section": models.PayloadSchemaType.KEYWORD,
        "installed_size": models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=True),
        "tags": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=False),
        "text": models.TextIndexParams(type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD, lowercase=True),
        "place": models.PayloadSchemaType.GEO,
    }.items():
        assert client.create_payload_index(packages, key, schema).status == models.UpdateStatus.COMPLETED
    schema = client.get_collection(packages).payload_schema
    assert {key: index.data_type.value for key, index in schema.items()} == {
        "section": "keyword", "installed_size": "integer", "tags": "keyword", "text": "text", "place": "geo",
    }
    filled = {key: sum(document.get(key) not in (None, []) for document in documents) for key in schema}
    assert {key: index.points for key, index in schema.items()} == filled and filled["place"] == 0 < filled["tags"]
    assert [client.count(packages, count_filter=wanted).count for wanted in filters] == before
    check_facets(client, packages, documents)
    client.delete_payload_index(packages, "tags")
    assert "tags" not in client.get_collection(packages).payload_schema
    assert [client.count(packages, count_filter=wanted).count for wanted in filters] == before
    client.upsert(packages, points=[models.PointStruct(id=10**6, vector=[1.0] + [0.0] * 383, payload={"place": {"lat": 52.501, "lon": 13.401}})])
    assert client.count(packages, count_filter=filters[4]).count == 1
    client.delete(packages, points_selector=[10**6])


@pytest.mark.parametrize("call, code, problem", [
    (lambda client: client.create_payload_index("packages", "a..b", models.PayloadSchemaType.KEYWORD), 400, "a..b"),
    (lambda client: client.facet("packages", key="description"), 400, 'has no payload index; documents are counted by one of kind keyword, uuid, integer or bool (there are: "section"'),
    (lambda client: client.facet("packages", key="text"), 400, '"text" has an index of kind text'),
    (lambda client: client.query_points("nowhere", query=[1.0]), 404, "nowhere"),
    (lambda client: client.query_points("packages", query=[1.0, 2.0]), 400, "384"),
    (lambda client: client.query_points("packages", query=[0.1] * 384, limit=10_001), 400, "10001"),
    (lambda client: client.query_points("packages", query=[0.1] * 384, using="title"), 400, "title"),
    (lambda client: client.upsert("packages", points=[models.PointStruct(id=1, vector=[0.5] * 383)]), 400, "383"),
    (lambda client: client.upsert("packages", points=[models.PointStruct(id=1, vector={"title": [0.5] * 384})]), 400, "title"),
    (lambda client: client.create_collection("packages", vectors_config=models.VectorParams(size=5, distance=models.Distance.DOT)), 409, "packages"),
    (lambda client: client.create_collection("big", vectors_config=models.VectorParams(size=8193, distance=models.Distance.DOT)), 400, "8193"),
    (lambda client: client.create_collection("a/b", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT)), 400, "a/b"),
])
def test_what_is_wrong_is_said(client, packages, call, code, problem):
    before = client.count(packages).count
    with pytest.raises(UnexpectedResponse) as refusal:
        call(client)
    assert refusal.value.status_code == code
    assert problem in json.loads(refusal.value.content)["status"]["error"]
    assert client.count(packages).count == before
