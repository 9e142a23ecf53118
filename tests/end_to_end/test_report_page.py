"""The HTML report: what it says, and how it looks in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import Options, Result, optimize
from optimize_graph.passes import op, rule, values
from optimize_graph.passes.pipeline.rewrite_log import Sketched
from optimize_graph.render import svg
from optimize_graph.render.html_report import page

pytestmark = pytest.mark.slow

DIGITS = Path(__file__).parents[2] / "examples" / "digits.onnx"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
LIGHT, DARK = (255, 255, 255), (20, 23, 31)


@pytest.fixture(scope="module")
def result() -> Result:
    return optimize(DIGITS, None, Options(measure=True, measure_seconds=0.5, model_profile=True))


@pytest.fixture(scope="module")
def html(result: Result) -> str:
    return page(result, title="digits.onnx", flags="optimize-graph digits.onnx")


def test_the_page_needs_neither_scripts_nor_a_network(html: str) -> None:
    assert "<script" not in html
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)|url\(|@import""", html)


def test_every_rule_that_fired_is_there_with_a_drawing_and_its_places(html: str, result: Result) -> None:
    for name in {each.rule for each in result.rewrites}:
        assert f"<p>{name} <span" in html
    assert html.count('<svg class="graph"') >= len({each.rule for each in result.rewrites})
    for each in result.rewrites:
        assert each.where in html


def test_the_figures_the_noise_and_the_worst_element_are_there(html: str, result: Result) -> None:
    assert result.verification is not None and result.measurement is not None
    assert f"{result.verification.floor:.2e}" in html
    assert str(result.verification.worst)[:20] in html
    speed = result.measurement.points[0].standings[1].timing.speed
    assert f"x{speed.median:.2f} faster" in html or f"x{speed.median:.2f}" in html
    assert html.count('class="bar before"') == html.count('class="bar after"') > 10
    assert '<path class="before"' in html and '<path class="after"' in html


def test_near_misses_stand_together_by_condition(result: Result, html: str) -> None:
    groups = {(each.rule, each.condition) for each in result.missed}
    assert groups
    assert html.count("<p>needs ") == len(groups)


def test_names_from_a_model_are_text_and_no_markup() -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float[2] y) { a = Identity(x)  y = Relu(a) }'
    model = onnx.parser.parse_model(text)
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "<script>alert(1)</script>"
    shown = page(optimize(model), title="<b>")
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)" in shown and "<title>&lt;b&gt;</title>" in shown


def test_a_page_of_what_was_neither_verified_nor_measured_says_so() -> None:
    shown = page(optimize(DIGITS, None, Options(verify=False)), title="digits")
    assert shown.count("not verified") == 2
    assert "Where the time goes" not in shown


def test_a_drawing_has_a_box_for_each_operator_and_a_line_to_each_that_reads_it() -> None:
    sketch = (Sketched("Exp", ()), Sketched("Neg", (0,)), Sketched("Add", (0, 1)))
    drawn = svg.graph(sketch)
    assert re.findall(r">(\w+)</text>", drawn) == ["Exp", "Neg", "Add"]
    assert drawn.count("<path") == 3
    lefts = [float(each) for each in re.findall(r'<rect x="([\d.]+)"', drawn)]
    assert lefts == sorted(set(lefts))


def test_drawings_of_one_rewrite_show_the_users_of_each_value() -> None:
    (x,) = values("x")

    from optimize_graph.passes import REGISTRY, Exactness

    with REGISTRY.scope():

        @rule(op.Log(op.Exp(x)), source="a test", exactness=Exactness.ROUNDING)
        def log_of_exp(m, op):  # type: ignore[no-untyped-def]
            """Two become two others.

            before: Log(Exp(x))
            after:  Abs(Neg(x))
            """
            return op.Abs(op.Neg(m.x))

        model = onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float[2] y) { a = Exp(x)  y = Log(a) }'
        )
        rewrites = optimize(model, None, Options(verify=False)).rewrites
    (found,) = [each.drawing for each in rewrites if each.rule == "log-of-exp"]
    assert found == ((Sketched("Exp", ()), Sketched("Log", (0,))), (Sketched("Neg", ()), Sketched("Abs", (0,))))


def test_a_long_curve_keeps_its_peaks() -> None:
    values = [1] * 5000
    values[2718] = 100
    drawn = svg.curves([("before", values)], 100)
    assert len(drawn) < 10_000
    assert "V10.0" in drawn  # the peak's height: the upper edge but for the margin


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize(("scheme", "paper"), [("light", LIGHT), ("dark", DARK)])
@pytest.mark.parametrize("width", [400, 1000])
def test_a_browser_shows_it_without_errors(
    tmp_path: Path, html: str, scheme: str, paper: tuple[int, int, int], width: int
) -> None:
    path, shot = tmp_path / "report.html", tmp_path / "shot.png"
    path.write_text(html, encoding="utf-8")
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={'1' if scheme == 'light' else '0'}",
            f"--window-size={width},2400",
            f"--screenshot={shot}",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    pixels = pixels_of(shot)
    assert pixels.shape == (2400, width, 3)
    assert tuple(pixels[3, 3]) == paper
    share = float((pixels != np.array(paper)).any(axis=2).mean())
    assert 0.03 < share < 0.6  # something is written, and it is a page
    assert (pixels[:, -6:] == np.array(paper)).all(), "something sticks out at the right"


def pixels_of(path: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))
