"""The MCP server through the package's own client, in this process and over stdio."""

import sys
from functools import partial

import pytest

from onoma import Recipe
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.markov import Markov
from onoma.run import run
from onoma.serving.mcp import Tools

mcp = pytest.importorskip("mcp", reason="the extra onoma[mcp] is not installed")
anyio = pytest.importorskip("anyio")


@pytest.fixture(scope="module")
def fitted(small_split):
    return Markov().fit(small_split)


def call(target, name, **arguments):
    async def main():
        async with mcp.Client(target) as client:
            return await client.call_tool(name, arguments)

    return anyio.run(main)


@pytest.fixture(scope="module")
def made(small_split, fitted):
    from onoma.serving.mcp import server

    return server(Tools(small_split, fitted, partial(Requests.known, small_split.dataset)))


def test_tools_describe_themselves(made):
    async def main():
        async with mcp.Client(made) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in anyio.run(main)}
    assert set(tools) == {"recommend", "search", "similar", "explain"}
    assert all(tool.description and tool.output_schema for tool in tools.values())
    assert tools["recommend"].input_schema["properties"]["k"]["maximum"] == 100


def test_recommend_answers_as_the_recommender_does(made, small_split, fitted):
    from onoma.recommenders import Requests

    data = small_split.dataset
    history = ["item-1", "日本語"]
    want = fitted.recommend(Requests.histories(data, [history]), 4).ids(data)[0]
    found = call(made, "recommend", history=history, k=3, exclude=want[:1])
    got = [item["item_id"] for item in found.structured_content["items"]]
    assert not found.is_error and got == want[1:]
    user = str(data.users["user_id"][0])
    seen = {str(data.item_ids[code]) for code in data.past(0)["item"]}
    known = call(made, "recommend", user_id=user, k=5).structured_content["items"]
    assert len(known) == 5 and not seen & {item["item_id"] for item in known}


def test_search_finds_titles(made):
    found = call(made, "search", query="green soap number 20", k=3).structured_content["items"]
    assert found[0]["title"] == "green soap number 18" or "soap" in found[0]["title"]
    assert found == sorted(found, key=lambda item: -item["score"]) and len(found) == 3
    assert call(made, "search", query="zebra").structured_content["items"] == []


def test_similar_and_explain(made, small_split):
    alike = call(made, "similar", item_id="item-3", k=4).structured_content["items"]
    alone = call(made, "recommend", history=["item-3"], k=4).structured_content["items"]
    assert alike == alone
    best = alike[0]["item_id"]
    why = call(made, "explain", item_id=best, history=["item-9", "item-3"]).structured_content
    assert why["method"] == "exact" and why["contributions"][0]["item_id"] == "item-3"
    assert any("item-3" in text or "number" in text for text in why["reasons"])


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("recommend", {"user_id": "nobody"}, "no user 'nobody'"),
        ("recommend", {"user_id": "a", "history": []}, "not both"),
        ("similar", {"item_id": "' OR 1=1"}, "no item"),
        ("recommend", {"k": 0}, "greater than or equal to 1"),
        ("explain", {}, "item_id"),
    ],
)
def test_bad_input_is_an_error_of_the_tool(made, name, arguments, said):
    found = call(made, name, **arguments)
    assert found.is_error and said in found.content[0].text
    assert "Traceback" not in found.content[0].text


def test_the_command_serves_over_stdio(small_split, tmp_path):
    data = small_split.dataset.save(tmp_path / "small")
    done = run(Recipe.load("markov"), str(data), tmp_path / "run", quiet=True)
    command = mcp.StdioServerParameters(
        command=sys.executable, args=["-m", "onoma", "mcp", str(done.path)], env=_environment()
    )
    found = call(command, "similar", item_id="item-3", k=2)
    assert not found.is_error and len(found.structured_content["items"]) == 2


def _environment():
    import os

    return {key: value for key, value in os.environ.items() if key != "ONOMA_DEBUG"}
