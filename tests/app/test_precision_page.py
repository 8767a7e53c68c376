# SPDX-License-Identifier: Apache-2.0
"""The page of number formats: what each place is set to, what it costs, and the file that it can be taken away as."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from dashboard_reader import Reader
from sample_runs import BROKEN, FAULTY, LAYERS, MARKUP, SOUND, write_explained_run
from shown_pages import Shown, texts

from number_formats import FORMATS, KERNELS, settings_cells
from tttdebug.modules import HardwareConfig
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.run import MANIFEST, Run


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    write_explained_run(folder / "broken")
    write_explained_run(folder / "sound", faulty=None)
    return folder


def copied(run: Run, folder: Path, hardware: dict[str, object]) -> None:
    """A copy of a run that says other things of its port's settings."""
    path = run.save(folder)
    replace(Manifest.read(path / MANIFEST), hardware=hardware).write(path / MANIFEST)


def test_every_place_has_the_settings_that_act_on_it() -> None:
    config = HardwareConfig(layers=((1, HardwareConfig.preset("performance")),))
    cells = settings_cells(FORMATS, ["embed", "L00.mlp", "L01.mlp", "L01.k_cache", "logits"], config, config)
    found = {(row.setting, row.place): row.label for row in cells.itertuples()}
    assert found == {
        ("embedding", "embed"): "16",
        ("FF1_FF3", "L00"): "8",
        ("FF2", "L00"): "8",
        ("FF1_FF3", "L01"): "4",
        ("FF2", "L01"): "8",
        ("KV_CACHE", "L01"): "8",
        ("lm_head", "logits"): "8",
    }
    fidelities = settings_cells(KERNELS, ["L01.mlp"], config, config)
    assert fidelities["label"].tolist() == ["Lo*", "2*"]


def test_settings_know_their_names_in_a_decoder_config() -> None:
    written = HardwareConfig().to_dict()
    assert {setting.field for setting in (*FORMATS, *KERNELS)} <= written.keys()


def test_it_says_whether_the_formats_explain_the_error(shown: Shown, explained: Path) -> None:
    app = shown(explained, "precision", run="broken")
    assert not app.exception
    assert f"do not explain the error of {FAULTY}" in app.header[0].value
    app = shown(explained, "precision", run="sound")
    assert "explain the error of all" in app.header[0].value


def test_predicted_stands_beside_measured(shown: Shown, explained: Path) -> None:
    app = shown(explained, "precision", run="broken")
    costs = next(table.value for table in app.dataframe if "predicted" in table.value).set_index("module")
    assert costs.loc["mlp", "formats"] == "bfloat8_b HiFi2 in FF1/FF3 and FF2; some layers otherwise"
    assert costs.loc["mlp", "worst"] == FAULTY
    assert costs.loc["mlp", "alone"] == pytest.approx(1.02 * costs.loc["mlp", "predicted"], rel=0.05)


def test_what_a_finding_would_set_stands_beside_what_is_set(shown: Shown, explained: Path) -> None:
    app = shown(explained, "precision", run="broken")
    assert f"{FAULTY}: `FF2`." in texts(app)
    assert "Number formats with it" in [header.value for header in app.subheader]
    app = shown(explained, "precision", run="sound")
    assert "What the findings would set" not in [header.value for header in app.subheader]


@pytest.mark.parametrize(
    ("hardware", "said"),
    [({}, "does not say which formats"), ({"wq": "bfloat16"}, "of another version of tttdebug")],
)
def test_without_readable_settings_it_says_so_and_shows_the_errors(
    shown: Shown, runs: Path, tmp_path: Path, hardware: dict[str, object], said: str
) -> None:
    copied(Run.load(runs / SOUND), tmp_path / "foreign", hardware)
    app = shown(tmp_path, "precision", run="foreign")
    assert not app.exception
    assert said in app.info[0].value
    assert any("predicted" in table.value for table in app.dataframe)


def test_settings_that_no_file_could_hold_are_said_to_be(shown: Shown, runs: Path, tmp_path: Path) -> None:
    copied(Run.load(runs / SOUND), tmp_path / "odd", HardwareConfig(ff2=MARKUP[0]).to_dict())
    app = shown(tmp_path, "precision", run="odd")
    assert not app.exception
    assert any("has no name in a decoder_config.json" in code.value for code in app.code)
    assert MARKUP[0] not in texts(app)


@pytest.mark.browser
def test_the_file_that_is_taken_away_is_what_the_run_was_made_with(reader: Reader, tmp_path: Path) -> None:
    reader.open(f"/precision?run={BROKEN}")
    reader.title(re.compile("The number formats do not explain the error of L03.mlp"))
    reader.keep("precision")
    with reader.page.expect_download() as download:
        reader.page.get_by_role("button", name="decoder_config.json").click()
    path = tmp_path / "decoder_config.json"
    download.value.save_as(path)
    decoders = json.loads(path.read_text(encoding="utf-8"))["decoders"]
    assert len(decoders) == LAYERS
    assert decoders["5"]["precision_cfg"]["FF1_FF3"] == "BFP4"
    read = HardwareConfig.from_decoder_config(path)
    assert read.for_layer(4) == HardwareConfig(name=read.for_layer(4).name)


@pytest.mark.browser
def test_a_click_on_a_setting_opens_its_module(reader: Reader) -> None:
    reader.open(f"/precision?run={BROKEN}")
    chart = reader.page.locator(".st-key-map-Number-formats")
    box = chart.bounding_box()
    assert box is not None
    reader.click_in("map-Number-formats", 150 + (box["width"] - 150) * 4.5 / 9, 22 * 2.5)
    reader.title(re.compile(r"L03\.(self_attn|mlp)"))
