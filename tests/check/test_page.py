"""The page of a check says every figure, shows every name as text, and Chromium finds nothing to complain about."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from bnncc.check.measurements import MEASURED, NOT_MEASURED, REFERENCE, SKIPPED, TOP, FileRows, Measurements
from bnncc.check.page import MOST_IMAGES, charts, numbers, write_page
from bnncc.check.page.thumbnails import LARGEST_SIDE, thumbnail
from bnncc.check.result import BASELINE, COMPILED, CheckResult, FileFacts, summarize
from bnncc.inspect import OperatorSummary
from bnncc.verification import LayerCheck, RoundedCheck, SignCheck, Verification
from tests.needs import debian, need

IMAGES, CLASSES = 400, 10
WRONG, CHANGED = 30, 8
SIZES = {COMPILED: 45_392, BASELINE: 791_244}
NAMES = tuple(f"class {number}" for number in range(CLASSES))
HOSTILE = "<script>alert('x')</script>&amp;\"><img src=http://example.com/x.png onerror=alert(1)>"
# Longer than a phone is wide, and nothing in it to break at.
LONG = "backbone_stage4_block17_residual_binary_convolution" * 3
PHONE, DESKTOP = (390, 844), (1280, 900)
# WCAG 2.2, 1.4.3, level AA, text of any size.
AA_CONTRAST = 4.5

OPERATORS = [
    OperatorSummary(0, "CONV_2D", ("1x28x28x1 float32",), ("1x14x14x32 float32",), 1_280, " int8", 0, 225_792),
    OperatorSummary(1, "LceQuantize", ("1x14x14x32 float32",), ("1x14x14x32 packed",), 0, "", 0, 0),
    OperatorSummary(2, "LceBconv2d", ("1x14x14x32 packed",), ("1x14x14x64 float32",), 5_120, "", 3_612_672, 0),
]


def measured(changed: int = CHANGED, baseline: bool = True, labels: bool = True) -> Measurements:
    """The reference is wrong on the first `WRONG` images; the file changes the last `changed`, and loses them."""
    files = (COMPILED, BASELINE) if baseline else (COMPILED,)
    rows = Measurements.empty(IMAGES, files)
    rows.state[:] = MEASURED
    right = np.arange(IMAGES) % CLASSES
    if labels:
        rows.labels[:] = right
    rows.elements[:], rows.signal[:] = CLASSES, 100.0
    for name, file in rows.files.items():
        file.classes[:] = (right[:, np.newaxis] + np.arange(TOP)) % CLASSES
        file.classes[:WRONG] = np.roll(file.classes[:WRONG], 1, axis=1)
        fill_errors(file, 0.0 if name == REFERENCE else 0.01)
    if changed:
        file = rows.files[COMPILED]
        file.classes[-changed:] = np.roll(file.classes[-changed:], 1, axis=1)
    return rows


def fill_errors(file: FileRows, error: float) -> None:
    file.error[:], file.absolute[:], file.noise[:], file.seconds[:] = error, error * CLASSES, error**2, 0.004


def result_of(rows: Measurements, **others: object) -> CheckResult:
    facts = FileFacts(
        "build/fashion.tflite",
        "images.npz",
        "net.py:make_net with net.pth",
        "raspberry-pi-4",
        "0.1.0",
        SIZES[COMPILED],
        718_120,
    )

    def name_of(row: int) -> str:
        return f"bag/{row}.jpg" if rows.state[row] == SKIPPED else f"test image {row}"

    result = summarize(rows, facts, SIZES, name_of, NAMES, CLASSES)
    return replace(result, **others)  # type: ignore[arg-type]


def verification(*, problems: tuple[str, ...] = ()) -> Verification:
    layers = [LayerCheck("block1.conv", 4_000, error=2e-7), LayerCheck("block2.conv", 2_000, 3, 2.0, 1e-3)]
    signs = [
        SignCheck("block1.sign", 10_000, 1, 1, 3e-7, 0, 1e-6, 0, 0),
        SignCheck("block2.sign", 10_000, 4, 3, 0.1, 2_500, 1e-5, 125, 7),
    ]
    rounded = [RoundedCheck("fc", "int8", 640, 0.5)]
    return Verification(4, layers, signs, rounded, 0.02, 3e-7, 3e-2, 4, list(problems))


def pixels(row: int) -> npt.NDArray[np.uint8]:
    return np.full((28, 28, 1), row % 256, np.uint8)


def page_of(result: CheckResult, picture: Callable[[int], npt.NDArray[np.uint8] | None] = pixels) -> str:
    return write_page(result, OPERATORS, picture)


class Page(HTMLParser):
    """Elements with their attributes, and the text without the style; no-break spaces become spaces."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self.feed(html)
        self.text = re.sub(r" (?=[,:;.])", "", re.sub(r"\s+", " ", " ".join(self._texts)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] != "style":
            self._texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


# The text


def test_summary_says_agreement_accuracies_difference_and_size() -> None:
    text = Page(page_of(result_of(measured()))).text
    assert "The same class on 392 of 400 images" in text
    assert "Same class 98.00 % 95 % interval 96.10 to 99.13 %" in text
    assert "Accuracy of the reference 92.50 % 95 % interval" in text
    assert "Accuracy of the file 90.50 % 95 % interval" in text
    assert "Difference −2.00 points 95 % interval" in text
    assert "McNemar p = 0.0078" in text
    assert "That is more than chance would do." in text
    assert "Size of the file 45.4 kB 15.8 times smaller than its float32 weights (718.1 kB)" in text


def test_a_difference_that_chance_explains_is_not_called_a_loss() -> None:
    text = Page(page_of(result_of(measured(changed=2)))).text
    assert "McNemar p = 0.5. Chance alone may do as much." in text


def test_equal_classes_are_said_without_a_percentage() -> None:
    text = Page(page_of(result_of(measured(changed=0)))).text
    assert "The same class on all 400 images" in text
    assert "No image is right in one and wrong in the other." in text
    assert "None: the compiled file puts every image into the reference's class." in text


def test_every_file_has_its_accuracies_errors_speed_and_size() -> None:
    text = Page(page_of(result_of(measured()))).text
    for name in ("Reference", "Compiled file", "Float baseline"):
        assert text.count(name) >= 4  # top-1, top-5, speed, tables
    assert "Top-1 accuracy on 400 images, with its 95 % interval; the axis begins at 86 %." in text
    assert "Top-5 accuracy" in text
    assert "Compiled file 0.01 0.01 " in text  # largest and mean error
    assert "60.0 dB" in text
    assert "Images per second" in text
    assert "Float baseline 250" in text
    assert "791.2 kB 17.4 times the file" in text


def test_changed_images_have_picture_label_and_both_predictions() -> None:
    page = Page(page_of(result_of(measured())))
    assert "8 of 400: only the reference is right on 8, only the file on 0, neither on 0." in page.text
    assert "test image 399 Label class 9 Reference class 9 ✓ right File class 3 ✗ wrong" in page.text
    assert len(page.all("img")) == CHANGED
    assert all(image["alt"] and (image["src"] or "").startswith("data:image/png;base64,") for image in page.all("img"))


def test_more_changed_images_than_fit_are_counted() -> None:
    asked: list[int] = []

    def picture(row: int) -> None:
        asked.append(row)

    page = Page(page_of(result_of(measured(changed=MOST_IMAGES + 7)), picture))
    assert len(asked) == MOST_IMAGES
    assert page.text.count("no picture") == MOST_IMAGES
    assert "… and 7 more;" in page.text


def test_layers_say_sums_flips_zeros_start_and_greatest_loss() -> None:
    failed = verification(problems=("binary convolution 'block2.conv': 3 sums are wrong", "another"))
    text = Page(page_of(result_of(measured(), verification=failed))).text
    assert (
        "The verification of the layers FAILED: binary convolution 'block2.conv': 3 sums are wrong (and 1 more)" in text
    )
    assert "5,997 of 6,000 equal; 3 wrong" in text
    assert "5 of 20,000 flip, 4 of them by rounding: not explained: 1" in text
    assert "Where flips start block2.sign (7 signs)" in text
    assert "Sign that loses most block2.sign: 1.25 % of its signs" in text
    assert "2,500 of 20,000: PyTorch's sign gives 0 there, a bit gives +1" in text
    assert "block2.sign zeros: 25.00 % 0.04 % fed 1.25 % by itself" in text
    assert "block1.conv 2.00 × 10⁻⁷ ✓ sums equal" in text
    assert "block2.conv 0.001 ✗ sums wrong: 3" in text
    assert "fc int8 640 0.5" in text


def test_a_verification_that_passed_says_so_first() -> None:
    found = verification()
    found.layers.pop()
    text = Page(page_of(result_of(measured(), verification=found))).text
    assert (
        "The verification of the layers passed: all 4,000 integer sums of 1 binary convolution equal the reference's"
        in text
    )


def test_operators_are_listed_with_weights_and_products() -> None:
    text = Page(page_of(result_of(measured()))).text
    assert "3 in the file, with 6,400 bytes of weights, 3,612,672 binary and 225,792 float" in text
    assert "0 CONV_2D 1x28x28x1 float32 1x14x14x32 float32 1,280 bytes int8 225,792" in text


def test_parts_that_were_not_measured_are_said_to_be_missing() -> None:
    text = Page(page_of(result_of(measured(baseline=False, labels=False)))).text
    assert "The data have no labels" in text
    assert "Not looked at: bnncc check --layers" in text
    assert "Float baseline" not in text
    assert "McNemar p" not in text
    assert "✓" not in text  # without a label nothing is right or wrong


def test_outputs_without_classes_are_judged_by_their_error() -> None:
    rows = measured(labels=False)
    result = summarize(rows, FileFacts("", "a tuple", "a module", "any", "0.1.0", 1_000, 4_000), SIZES, str, (), None)
    text = Page(page_of(result)).text
    assert "compiled network The outputs differ by 0.01 at most" in text
    assert "no image has a class" in text


def test_an_interrupted_run_says_how_far_it_came() -> None:
    rows = measured()
    rows.state[300:] = NOT_MEASURED
    text = Page(page_of(result_of(rows))).text
    assert "Not complete The run was interrupted: 300 of 400 images were seen." in text


def test_skipped_images_and_warnings_are_listed() -> None:
    rows = measured()
    rows.state[[3, 5]] = SKIPPED
    text = Page(page_of(result_of(rows, warnings=("zeros reach block2.sign",)))).text
    assert "2 images were left out" in text
    assert "bag/3.jpg bag/5.jpg" in text
    assert "Warning zeros reach block2.sign" in text


def test_equal_outputs_and_infinite_errors_have_words() -> None:
    rows = measured()
    fill_errors(rows.files[COMPILED], 0.0)
    rows.files[BASELINE].error[0] = math.inf
    text = Page(page_of(result_of(rows))).text
    assert "infinite: all outputs equal" in text
    assert "Float baseline infinite" in text


# The markup


def test_names_are_text_whatever_they_hold() -> None:
    names = dict.fromkeys(("path", "target", "version"), HOSTILE)
    result = result_of(measured(), verification=verification(problems=(HOSTILE,)), warnings=(HOSTILE,))
    found = result.verification
    assert found is not None
    for entry in (*found.layers, *found.signs, *found.rounded):
        entry.module = HOSTILE
    result = replace(
        result,
        facts=replace(result.facts, **names),  # type: ignore[arg-type]
        classes=(HOSTILE,) * CLASSES,
        skipped=(HOSTILE,),
        changed=tuple(replace(changed, name=HOSTILE) for changed in result.changed),
    )
    operator = replace(OPERATORS[0], name=HOSTILE, inputs=(HOSTILE,), outputs=(HOSTILE,))
    html = write_page(result, [operator], pixels)
    page = Page(html)
    assert not page.all("script")
    assert "onerror" not in {name for _, attributes in page.elements for name in attributes}
    assert page.text.count(HOSTILE) > 30
    assert len(page.all("img")) == CHANGED


def test_page_refers_to_nothing_outside_itself() -> None:
    page = Page(page_of(result_of(measured(), verification=verification())))
    references = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data") and value is not None
    ]
    assert references
    assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in references)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not any("style" in attributes for _, attributes in page.elements)


def test_markup_is_accessible() -> None:
    page = Page(page_of(result_of(measured(), verification=verification())))
    assert len(page.all("h1")) == 1
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in page.all("a")} <= {f"#{name}" for name in ids}
    assert page.all("html") == [{"lang": "en"}]


# Numbers, axes, pictures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.931, "93.10 %"),
        (1e-4, "0.01 %"),
        (0.00003, "0.0030 %"),
        (0.99998, "99.9980 %"),
        (1 / 3e8, "0.00000033 %"),
    ],
)
def test_a_share_never_rounds_to_none_or_all(value: float, text: str) -> None:
    assert numbers.percent(value).replace(numbers.NO_BREAK_SPACE, " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.0123, "0.0123"), (3.1e-6, "3.10 × 10⁻⁶"), (123456.0, "1.23 × 10⁵"), (math.inf, "infinite")],
)
def test_decimals_have_three_digits(value: float, text: str) -> None:
    assert numbers.decimal(value).replace(numbers.NO_BREAK_SPACE, " ") == text


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_an_axis_holds_its_values_and_ends_at_shares(values: list[float]) -> None:
    axis = charts.axis(values, 0, 1)
    assert 2 <= len(axis.ticks) <= 2 * charts.STEPS
    assert axis.ticks[0] >= -1e-9
    assert axis.ticks[-1] <= 1 + 1e-9
    assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks)
    for value in values:
        assert charts.MARGIN - 1e-3 <= float(axis.at(value).rstrip("%")) <= 100 - charts.MARGIN + 1e-3


def test_bars_begin_at_zero_and_what_is_not_zero_can_be_seen() -> None:
    assert charts.bar(0, 5) == "0%"
    assert charts.bar(1e-9, 5) == f"{charts.SMALLEST_BAR:.2f}%"
    assert charts.bar(2.5, 5) == "50.00%"
    assert charts.bar(math.inf, 5) == "100%"
    assert charts.bar(0, 0) == "0%"


@pytest.mark.parametrize("shape", [(28, 20), (28, 20, 1), (28, 20, 3)])
def test_a_small_picture_keeps_its_pixels(shape: tuple[int, ...]) -> None:
    original = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    shown = thumbnail(original)
    content = base64.b64decode(shown.url.removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), original.squeeze())
    assert (shown.width, shown.height) == (20, 28)


def test_a_large_picture_is_scaled_down() -> None:
    shown = thumbnail(np.zeros((448, 224, 3), np.uint8))
    assert (shown.width, shown.height) == (LARGEST_SIDE // 2, LARGEST_SIDE)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not uint8 \(4, 4, 2\)"):
        thumbnail(np.zeros((4, 4, 2), np.uint8))


# In a browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Headless, with a profile of its own, logging its console and every request."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    need(program, debian("chromium"))
    need(driver, debian("chromedriver", "chromium-driver"))
    options = ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with Chrome(options=options, service=Service(driver)) as browser:
        yield browser


@pytest.fixture(scope="module")
def longest_page() -> str:
    """Every part is there, and every name is long."""
    result = result_of(measured(changed=MOST_IMAGES + 7), verification=verification(problems=(LONG,)))
    found = result.verification
    assert found is not None
    for entry in (*found.layers, *found.signs, *found.rounded):
        entry.module = LONG
    result = replace(
        result,
        facts=replace(result.facts, path=f"{LONG}.tflite", target=LONG),
        classes=(LONG, HOSTILE, *NAMES[2:]),
        skipped=(LONG,),
        warnings=(LONG,),
        complete=False,
        changed=tuple(replace(changed, name=LONG) for changed in result.changed),
    )
    return page_of(result, lambda row: np.full((224, 224, 3), row % 256, np.uint8))


def show(browser: Chrome, path: Path, html: str, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> None:
    """Load the page as a screen of this size would, with every `details` open."""
    path.write_text(html, encoding="utf-8")
    width, height = size
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for log in ("browser", "performance"):
        browser.get_log(log)  # what the page before left
    browser.get(path.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(details => details.open = true)")


def requests(browser: Chrome) -> list[str]:
    """The addresses that were asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [entry["request"]["url"] for entry in sent]


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chromium_logs_nothing_and_requests_nothing(
    chromium: Chrome, tmp_path: Path, longest_page: str, size: tuple[int, int], scheme: str
) -> None:
    path = tmp_path / "page.html"
    show(chromium, path, longest_page, size, scheme)
    assert chromium.get_log("browser") == []
    assert [url for url in requests(chromium) if not url.startswith("data:")] == [path.as_uri()]


def test_policy_stops_what_would_load_or_run(chromium: Chrome, tmp_path: Path) -> None:
    intruder = (
        "<script>document.title = 'ran'</script><img src='http://127.0.0.1:9/x.png'>"
        "<link rel='stylesheet' href='http://127.0.0.1:9/x.css'><p style='color: red'>"
    )
    html = page_of(result_of(measured())).replace("<main>", f"<main>{intruder}")
    path = tmp_path / "page.html"
    show(chromium, path, html)
    messages = [entry["message"] for entry in chromium.get_log("browser")]
    assert sum("Content Security Policy" in message for message in messages) >= 4
    assert chromium.title != "ran"


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_page_does_not_scroll_sideways(
    chromium: Chrome, tmp_path: Path, longest_page: str, size: tuple[int, int]
) -> None:
    show(chromium, tmp_path / "page.html", longest_page, size)
    width = chromium.execute_script("return document.documentElement.scrollWidth")
    assert width <= size[0]


def test_light_and_dark_have_other_backgrounds_and_enough_contrast(
    chromium: Chrome, tmp_path: Path, longest_page: str
) -> None:
    backgrounds = set()
    for scheme in ("light", "dark"):
        show(chromium, tmp_path / "page.html", longest_page, DESKTOP, scheme)
        colours = chromium.execute_script(COLOURS_OF_TEXTS)
        assert len(colours) >= 3
        for text, background in colours:
            assert contrast(text, background) >= AA_CONTRAST, (scheme, text, background)
        backgrounds.add(chromium.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2


def test_a_hostile_class_name_is_shown_as_text(chromium: Chrome, tmp_path: Path, longest_page: str) -> None:
    show(chromium, tmp_path / "page.html", longest_page)
    assert chromium.execute_script("return document.scripts.length") == 0
    shown = chromium.execute_script("return [...document.querySelectorAll('.images dd')].map(dd => dd.textContent)")
    assert any(text.startswith(HOSTILE) for text in shown)


# Every pair (colour, background) of an element that holds text itself.
COLOURS_OF_TEXTS = """
const pairs = new Map();
for (const element of document.querySelectorAll("body *")) {
  if (![...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim())) continue;
  const style = getComputedStyle(element);
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  const pair = [element instanceof SVGElement ? style.fill : style.color, getComputedStyle(behind).backgroundColor];
  pairs.set(pair.join(), pair);
}
return [...pairs.values()];
"""


def contrast(first: str, second: str) -> float:
    """WCAG's contrast ratio of two colours "rgb(r, g, b)"."""
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
