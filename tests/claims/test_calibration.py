"""Each calibrator mends the distortion it is made for, and the choice among them finds it.

Labels follow true log-odds N(-0.5, 2), which the model reports distorted. Excess NLL is measured on new
images, against the true log-odds. Seeds are fixed.
"""

import numpy as np
import pytest

from streetvision_core.eval.calibration import FITS, choose_calibrator, fit_temperature

DISTORTIONS = {
    "temperature": lambda true: 2.5 * true,
    "platt": lambda true: 1.5 * true + 2,
    "isotonic": lambda true: true**3 / 3,
}


def draw(random, pictures, distort):
    """Distorted margins, labels, and the true log-odds."""
    true = random.normal(-0.5, 2, pictures)
    return distort(true), random.random(pictures) < 1 / (1 + np.exp(-true)), true


def nll(probability, labels):
    return -np.log(np.maximum(np.where(labels, probability, 1 - probability), 2.0**-53)).mean()


def sigmoid(margins):
    return 0.5 * (1 + np.tanh(np.asarray(margins) / 2))


def test_the_temperature_is_recovered_within_5_percent_from_4000_images(trials):
    """The mean over trials within 1 %, and at least 85 of 100 trials within 5 %: its error is about 2.6 %."""
    random = np.random.default_rng(30)
    for temperature in (0.5, 2.5):
        fitted = np.array(
            [
                fit_temperature(*draw(random, 4000, lambda true, t=temperature: t * true)[:2])
                for _ in range(trials // 20)
            ]
        )
        off = np.abs(fitted / temperature - 1)
        assert abs(fitted.mean() / temperature - 1) < 0.01
        assert np.mean(off < 0.05) > 0.85
    assert off.size >= 100


@pytest.mark.parametrize("method", FITS)
def test_a_calibrator_mends_the_distortion_it_is_made_for(method, trials):
    """From 3,000 images it takes away at least 90 % of the excess NLL."""
    random = np.random.default_rng(31)
    distort = DISTORTIONS[method]
    before, after = [], []
    for _ in range(max(trials // 200, 5)):
        margins, labels, _ = draw(random, 3000, distort)
        new, answers, true = draw(random, 20_000, distort)
        least = nll(sigmoid(true), answers)
        before.append(nll(sigmoid(new), answers) - least)
        after.append(nll(FITS[method](margins, labels).apply(new), answers) - least)
    assert np.mean(after) < 0.1 * np.mean(before)


@pytest.mark.parametrize("pictures", [100, 300])
def test_under_pure_scale_error_and_few_images_temperature_is_chosen(pictures, trials):
    """It is chosen in at least 85 of 100 draws."""
    random = np.random.default_rng(32)
    some = trials // 40
    chosen = [
        choose_calibrator(*draw(random, pictures, DISTORTIONS["temperature"])[:2]).calibrator.method
        for _ in range(some)
    ]
    assert chosen.count("temperature") >= 0.85 * some


@pytest.mark.parametrize(
    ("distortion", "pictures"),
    [
        ("platt", 300),
        ("isotonic", 3000),
    ],
)
def test_another_distortion_is_found_where_there_are_images_enough(distortion, pictures, trials):
    """It is found in at least 80 of 100 draws."""
    random = np.random.default_rng(33)
    some = trials // 100
    chosen = [
        choose_calibrator(*draw(random, pictures, DISTORTIONS[distortion])[:2]).calibrator.method
        for _ in range(some)
    ]
    assert sum(method == distortion for method in chosen) >= 0.8 * some


def test_the_chosen_calibrator_is_never_far_from_the_best_one(trials):
    """In the mean over draws of 300 images its excess NLL is at most 0.02 nats above the best method's."""
    random = np.random.default_rng(34)
    for distort in (DISTORTIONS["temperature"], DISTORTIONS["platt"], DISTORTIONS["isotonic"]):
        excess = {method: [] for method in [*FITS, "chosen"]}
        for _ in range(trials // 100):
            margins, labels, _ = draw(random, 300, distort)
            new, answers, _ = draw(random, 5000, distort)
            for method, fit in FITS.items():
                excess[method].append(nll(fit(margins, labels).apply(new), answers))
            chosen = choose_calibrator(margins, labels).calibrator
            excess["chosen"].append(nll(chosen.apply(new), answers))
        means = {method: np.mean(values) for method, values in excess.items()}
        assert means["chosen"] <= min(means[method] for method in FITS) + 0.02
