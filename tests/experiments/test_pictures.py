"""Uses of pictures: quantised codes as files, what their quality is, sheets of many; holes; what is where."""

import numpy as np
import pytest

from experiments.reporting import examples_page
from experiments.running.quality import psnr_db, ssim
from experiments.tables.uses.dictionaries.code_jacobians import hoyer, top_share
from experiments.tables.uses.pictures import image_compression as files
from experiments.tables.uses.pictures import restoration, segmentation
from models.config import ConfigError
from models.metrics.compression.symbols import FIXED, frequencies, read, written


def codes(n, rng):
    return rng.binomial(9, [0.1, 0.5, 0.9], size=(n, 3)) - np.array([0, 40, -7])


def test_codes_come_back_from_a_file_of_their_entropy():
    rng = np.random.default_rng(0)
    under, rows = frequencies(codes(4000, rng)), codes(1000, rng)
    rows = under.nearest(rows)
    file = written(rows, under)
    assert (read(file, under) == rows).all()
    logs = np.take_along_axis(under.log_p, (rows - under.lowest).T, axis=1)
    ideal = -logs.sum() / np.log(2) / 8
    assert ideal <= len(file) <= 1.01 * ideal + FIXED + 8
    assert len(written(rows[:0], under)) == FIXED


def test_a_damaged_file_and_a_foreign_code_are_refused():
    rows = codes(50, np.random.default_rng(0))
    under = frequencies(rows)
    file = written(rows, under)
    for content in (file[1:], file[:-1], b"", file + bytes(16)):
        with pytest.raises(ConfigError, match="the file holds"):
            read(content, under)
    with pytest.raises(ConfigError, match="outside the range"):
        written(rows + 100, under)
    assert (read(written(under.nearest(rows + 100), under), under) == under.lowest + under.log_p.shape[1] - 1).all()


def test_what_is_measured_is_what_the_file_decodes_to():
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(3, 16))
    decode = lambda z: (0.5 + 0.05 * z @ basis).reshape(-1, 4, 4, 1)
    seen, new = rng.normal(size=(500, 3)), rng.normal(size=(20, 3))
    for coded, step in zip(files.quantised(seen, new, 1.0, decode, 48), files.STEPS, strict=True):
        under = frequencies(np.round(seen / step).astype(int))
        again = np.clip(np.round(255 * decode(read(coded.files[0], under) * step)), 0, 255) / 255
        assert np.abs(again - coded.back).max() < 1e-6
        assert coded.decoder == 48 + under.log_p.size
        near = np.clip(decode(under.nearest(np.round(new / step).astype(int)) * step), 0, 1)
        assert np.abs(near - coded.back).max() < 0.501 / 255


@pytest.mark.parametrize("shape", [(7, 28, 28, 1), (4, 16, 20, 3)])
def test_a_sheet_gives_its_pictures_back(shape):
    pictures = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    sheet = files.tiled(pictures)
    assert not any(side % 16 for side in sheet.shape[:2])
    assert (files.untiled(sheet, shape) == pictures).all()
    assert (files.untiled(files.opened(files.saved(sheet, "png", 0)), shape) == pictures).all()


def test_bits_at_a_quality_lie_between_two_rates():
    curve = np.array([[0.1, 10], [0.2, 9], [0.4, 20], [0.8, 19]])
    assert files.bits_at(curve, 15) == pytest.approx(0.2)  # √(0.1 * 0.4): what is dearer and worse does not count
    assert files.bits_at(curve, 5) == pytest.approx(0.1)
    assert files.bits_at(curve, 21) == np.inf


def test_quality_is_that_of_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=(2, 3, 20, 24, 2))
    b = 0.7 * a + 0.3 * b
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    theirs = np.mean([structural_similarity(*pair, channel_axis=2, **window) for pair in zip(a, b, strict=True)])
    assert ssim(a, b) == pytest.approx(theirs, rel=1e-12)
    assert psnr_db(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), rel=1e-12)
    assert ssim(a, a) == pytest.approx(1)
    assert psnr_db(a, a) == np.inf


def test_a_hole_is_a_square_of_patches_and_a_normal_is_filled_by_its_conditional_mean():
    rng = np.random.default_rng(0)
    known = restoration.holes((50, 8, 12, 1), 2, rng)
    assert ((~known).sum((1, 2, 3)) == 16).all()
    assert restoration.hole_share(known) == 16 / 64
    assert not np.array([np.argwhere(~one)[0] % 2 for one in known]).any()  # from the edge of a patch
    seen = rng.normal(size=(20_000, 2)) @ np.array([[1.0, 0.8], [0, 0.6]])  # correlation 0.8
    seen = seen.reshape(-1, 1, 2, 1)
    new, half = np.array([[[[1.5], [0.0]]]]), np.array([[[[True], [False]]]])
    filled = restoration.linear(restoration.RestorationProtocol(), 0, restoration.Damaged(seen, new, half))
    assert filled[0, 0, 0, 0] == 1.5
    assert filled[0, 0, 1, 0] == pytest.approx(1.2, abs=0.03)


def test_scenes_know_what_they_show_and_where():
    protocol = segmentation.SceneProtocol(noise=0.0)
    made = segmentation.scenes(segmentation.shapes, protocol, None, "train", 0, 40)
    assert ((made.x[..., 0] > 0.3) <= (made.shows > 0)).all()  # what is bright is of some class
    assert (made.x[made.shows > 0] > 0).all()
    assert (made.centre.sum((1, 2, 3)) <= segmentation.OBJECTS).all()
    assert made.centre.any((1, 2, 3)).all()
    assert (segmentation.joined(segmentation.cells(made.shows)) == made.shows).all()
    around = segmentation.window(12)(protocol, 0, made.x)(made.x)
    assert (around[:, 2, 3].reshape(-1, 12, 12) == made.x[:, 4:16, 8:20, 0]).all()
    assert (around[:, 0, 0].reshape(-1, 12, 12)[:, 4:, 4:] == made.x[:, :8, :8, 0]).all()
    truth = np.array([0, 1, 1, 2])
    assert segmentation.overlap(truth, truth, 3) == 1
    assert segmentation.overlap(truth, np.array([1, 1, 0, 2]), 3) == pytest.approx((1 / 3 + 1) / 2)


def test_the_strongest_examples_of_a_unit_are_where_it_is_on_most():
    """The page marks the character that was read last, and takes no character for HTML."""
    text, codes = ["ab<c/>de", "xyz&uvwt"], np.zeros((2, 8, 3))
    codes[0, 3, 1], codes[1, 4, 1], codes[1, 7, 1], codes[0, 0, 2] = 2.0, 5.0, 1.0, 9.0
    row = examples_page.strongest(codes, text, shown=5)
    units = {unit.name: unit for unit in examples_page.units_of({name: [value] for name, value in row.items()})}
    assert set(units) == {"unit 1", "unit 2"}  # unit 0 is never on
    assert units["unit 2"].examples == []  # on where nothing has been read
    first, second = units["unit 1"].examples
    assert (first.text[first.place], max(first.values)) == ("&", 5.0)
    assert (second.text[second.place], max(second.values)) == ("<", 2.0)
    line = examples_page.line(second, 5.0)
    assert line.startswith("ab<b") and "rgba(240,140,40,0.40)" in line  # noqa: PT018
    assert line.endswith(">&lt;</b>c/&gt;d")


def test_sparsity_of_a_jacobian_is_1_for_one_entry_and_0_for_equal_ones():
    one, equal = np.zeros((1, 4, 5)), np.full((1, 4, 5), -2.0)
    one[0, 1, 2] = 3.0
    assert hoyer(one) == pytest.approx(1)
    assert hoyer(equal) == pytest.approx(0)
    assert hoyer(np.concatenate([one, equal, 0 * one])) == pytest.approx(0.5)  # nothing is said of no entry at all
    assert (top_share(one), top_share(equal)) == (pytest.approx(1), pytest.approx(0.1))
