# SPDX-License-Identifier: Apache-2.0
"""The tensor view of a boundary and the page of the caches: what they say at an address, and where a click leads."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from cache_runs import CACHES, OTHER_ORDER
from dashboard_reader import Reader
from playwright.sync_api import expect
from sample_runs import BROKEN, FAULTY, SOUND, Pair, add_pair, open_writer
from shown_pages import Shown, texts
from streamlit.testing.v1 import AppTest

from tttdebug.tracking.run import Run
from zoom import row_and_channel


def subheaders(app: AppTest) -> list[str]:
    return [element.value for element in app.subheader]


def test_saved_tensors_are_shown_as_a_whole(shown: Shown, runs: Path) -> None:
    app = shown(runs, "module", run=BROKEN, boundary=FAULTY)
    assert not app.exception
    assert {"Tensors", "Values", "Channels"} <= set(subheaders(app))
    assert "A cell is one value" in texts(app)
    assert "|port − reference|" in texts(app)


def test_an_address_leads_to_a_tile_and_to_a_face(shown: Shown, runs: Path) -> None:
    tile = shown(runs, "module", run=BROKEN, boundary=FAULTY, element="37,70")
    assert "**Tile** of tokens 32 to 63, channels 64 to 95" in texts(tile)
    face = shown(runs, "module", run=BROKEN, boundary=FAULTY, element="37,70", zoom="face")
    assert "**Face** of tokens 32 to 47, channels 64 to 79" in texts(face)
    numbers = next(table.value for table in face.dataframe if table.value.shape == (16, 16))
    reference, port = Run.load(runs / BROKEN).tensors(Run.load(runs / BROKEN).first_divergence().key)
    assert math.isclose(numbers.loc["37", "70"], float(port[37, 70] - reference[37, 70]), rel_tol=1e-5)
    assert f"{float(reference[37, 70]):.6g}" in texts(face)


@pytest.mark.parametrize(("button", "said"), [("above", "tokens 0 to 31"), ("to the left", "channels 32 to 63")])
def test_the_neighbours_of_a_tile_are_a_step_away(shown: Shown, runs: Path, button: str, said: str) -> None:
    app = shown(runs, "module", run=BROKEN, boundary=FAULTY, element="37,70")
    assert app.button(key="go below").disabled
    assert app.button(key="go to the right").disabled
    assert said in texts(app.button(key=f"go {button}").click().run())


@pytest.mark.parametrize("element", ["9999,0", "0,9999", "-1,0", "x", "1,2,3"])
def test_an_element_that_is_not_there_is_said_and_all_is_shown(shown: Shown, runs: Path, element: str) -> None:
    app = shown(runs, "module", run=BROKEN, boundary=FAULTY, element=element)
    assert not app.exception
    assert "points outside of this tensor" in texts(app)


def test_without_tensors_the_command_that_keeps_them_is_given(shown: Shown, runs: Path) -> None:
    app = shown(runs, "module", run=SOUND, boundary="embed")
    assert not app.exception
    assert app.code[0].value.startswith("tttdebug run --model llama")
    assert app.code[0].value.endswith("--save-tensors all")
    assert "Error per token" in subheaders(app)


def test_damaged_tensors_leave_the_rest_of_the_page(shown: Shown, runs: Path, tmp_path: Path) -> None:
    path = Run.load(runs / BROKEN).save(tmp_path / "damaged")
    (file,) = (path / "tensors").glob(f"{FAULTY}.prefill*")
    file.write_bytes(file.read_bytes()[:-8])
    app = shown(tmp_path, "module", run="damaged", boundary=FAULTY)
    assert not app.exception
    assert file.name in app.code[0].value
    assert {"Error per token", "All metrics"} <= set(subheaders(app))


def test_values_that_are_not_finite_are_shown(shown: Shown, runs: Path) -> None:
    app = shown(runs, "module", run="incomparable", boundary="L01.mlp", element="3,5")
    assert not app.exception
    assert "the port nan" in texts(app)


def test_users_are_set_side_by_side(shown: Shown, runs: Path) -> None:
    app = shown(runs, "module", run="archive/two_users", boundary="L01.mlp")
    assert not app.exception
    assert "Error per user" in subheaders(app)


def test_heads_are_those_of_the_models_config(shown: Shown, runs: Path) -> None:
    app = shown(runs, "module", run=CACHES, boundary="L00.k_cache")
    assert "Error per head" in subheaders(app)
    assert "Error per device" not in subheaders(app)


def test_devices_of_a_mesh_are_set_side_by_side(shown: Shown, runs: Path) -> None:
    assert "Error per device" in subheaders(shown(runs, "module", run=CACHES, boundary="L00.v_cache"))


def test_of_outliers_the_bulk_of_the_values_is_shown_first(shown: Shown, tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "outlier", "llama", save_tensors="all")
    values = torch.randn((32, 96), generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    values[3, 7] = 5000
    add_pair(writer, Pair("embed", values, 1.001 * values), "prefill", 0, 0)
    writer.finish()
    app = shown(tmp_path, "module", run="outlier", boundary="embed")
    assert app.radio(key="choose Range").value == "most"
    assert "1 outside of this range" in texts(app)
    everything = shown(tmp_path, "module", run="outlier", boundary="embed", values="all")
    assert everything.radio(key="choose Range").value == "all"


@pytest.mark.parametrize(("index", "place"), [([3, 7], (3, 7)), ([1, 2, 5], (14, 5)), ([4], (0, 4)), ([], (0, 0))])
def test_leading_dims_are_folded_into_rows(index: list[int], place: tuple[int, int]) -> None:
    assert row_and_channel(index, (2, 12, 9)[-len(index) :] if index else ()) == place


def test_keys_that_differ_by_their_order_only_are_said(shown: Shown, runs: Path) -> None:
    app = shown(runs, "cache", run=CACHES)
    assert not app.exception
    assert f"Heads of {OTHER_ORDER}" in subheaders(app)
    assert f"only the order differs, first in {OTHER_ORDER}" in texts(app)
    assert "3 of 18 comparisons of caches fail" in texts(app)


def test_a_layer_of_the_address_is_shown(shown: Shown, runs: Path) -> None:
    assert "Heads of L02" in subheaders(shown(runs, "cache", run=CACHES, boundary="L02.mlp"))


def test_a_run_without_caches_says_why(shown: Shown, runs: Path) -> None:
    app = shown(runs, "cache", run=SOUND)
    assert not app.exception
    assert "This run compares no cache" in texts(app)


def test_a_run_of_an_earlier_version_says_what_it_lacks(shown: Shown, runs: Path, tmp_path: Path) -> None:
    path = Run.load(runs / CACHES).save(tmp_path / "earlier")
    profiles = path / "profiles.jsonl"
    kept = re.sub(r', "heads": \{.*?"other_order_rel_l2": [^}]*\}', "", profiles.read_text(encoding="utf-8"))
    profiles.write_text(kept, encoding="utf-8")
    manifest = path / "manifest.json"
    unsealed = re.sub(r'"seals": \{.*?\}', '"seals": {}', manifest.read_text(encoding="utf-8"), flags=re.S)
    manifest.write_text(re.sub(r',\s*"digest": "[^"]*"', "", unsealed), encoding="utf-8")
    app = shown(tmp_path, "cache", run="earlier")
    assert not app.exception
    assert "An earlier version of tttdebug" in texts(app)
    assert app.code[0].value.startswith("tttdebug run")


@pytest.mark.browser
def test_clicks_lead_from_the_whole_tensor_to_a_face_and_back(reader: Reader) -> None:
    reader.open(f"/module?run={BROKEN}&boundary={FAULTY}")
    reader.click_in("map-difference-whole", 150, 100)
    expect(reader.page).to_have_url(re.compile("element=.*zoom=tile"))
    reader.see("Tile of")
    reader.settle()
    reader.keep("tile")
    tile = re.escape(reader.page.url.partition("element=")[2])
    reader.page.locator("[class*='st-key-map-port-tile']").click(position={"x": 150, "y": 100})
    expect(reader.page).to_have_url(re.compile("zoom=face"))
    reader.see("Face of")
    reader.settle()
    reader.page.go_back()
    expect(reader.page).to_have_url(re.compile(tile))
    reader.see("Tile of")
    reader.settle()  # a click on a page that is being redrawn is lost
    reader.page.get_by_role("button", name="whole tensor").click()
    reader.see("A cell is one value")
    expect(reader.page).not_to_have_url(re.compile("element="))


@pytest.mark.browser
def test_a_click_on_a_layer_shows_its_heads(reader: Reader) -> None:
    reader.open(f"/cache?run={CACHES}")
    reader.see(f"Heads of {OTHER_ORDER}")
    reader.keep("cache")
    reader.click_in("layers-of-values", 150, 70)
    expect(reader.page).to_have_url(re.compile("boundary=L02.v_cache"))
    reader.see("Heads of L02")
    reader.page.get_by_role("link", name="L02 keys").click()
    reader.title(re.compile("L02.k_cache"))
