"""A certificate that was forged: it contradicts its counts, its recipe, the report or the images.

Every digest is computed again, those of what was frozen as well.
"""

import json

import pytest

from streetvision_core.bundle import verify_bundle
from streetvision_core.io import json_digest
from streetvision_core.policies.config import RecordedScrc
from tests.bundle.chain import Chain, certify, evaluate_again
from tests.bundle.forging import forge_part, forge_parts, refused

SCRC = "policy/scrcparams.json"


def freeze_again(policy):
    policy["frozen"] = {
        "point": json_digest(policy["point"]),
        "calibrator": json_digest(policy["calibrator"]),
        "sequences": json_digest([certificate["thresholds"] for certificate in policy["certificates"]]),
    }


def loosen(policy, *, threshold=0.5):
    """Put a looser threshold into the frozen sequence, and certify that one."""
    policy["certificates"][0].update(thresholds=[threshold], threshold=threshold, K=1, tested=1)


def surer(policy):
    """A calibrator to which almost every answer is certain."""
    policy["calibrator"] = {"method": "platt", "slope": 1000.0, "intercept": 0.0}


def certificate(**values):
    return lambda policy: policy["certificates"][0].update(values)


FORGERIES = {
    "fewer errors": lambda p: p["certificates"][0].update(k=p["certificates"][0]["k"] - 1),
    "fewer accepted": lambda p: p["certificates"][0].update(m=p["certificates"][0]["m"] - 1),
    "more units": lambda p: p["certificates"][0].update(n=p["certificates"][0]["n"] + 1),
    "a looser threshold": loosen,
    "another calibrator": surer,
    "another operating point": lambda p: p["point"].update(threshold=0.5),
    "a lower bound": certificate(upper_bound=0.01),
    "a higher alpha": certificate(alpha=0.9),
    "a lower alpha": certificate(alpha=0.05),
    "a lower delta": certificate(delta=0.01),
    "a better coverage": certificate(coverage_low=0.99),
    "fewer needed": certificate(needed=1),
    "a threshold that was not frozen": certificate(threshold=0.5),
    "another recipe": lambda p: p["chosen_by"]["promise"].update(alpha=0.01),
    "another promise": lambda p: p.update(promised="two_sided"),
    "other units": lambda p: p.update(units="pictures"),
    "other words": lambda p: p.update(guarantee=p["guarantee"].replace("40", "1")),
}


@pytest.fixture(scope="module")
def certified(chain, tmp_path_factory):
    """A bundle with a certificate of several steps, in which one unit is answered wrongly."""
    own = Chain(type(chain.store)(tmp_path_factory.mktemp("certified") / "store"), dict(chain.upstream))
    policy = certify(own, RecordedScrc(alpha=0.4, delta=0.2))
    assert policy.certificates[0].k > 0
    evaluate_again(own)
    return own.bundle("20261122T101500-ffffffff", policy="scrc")


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("frozen", [False, True], ids=["frozen as before", "frozen again"])
def test_a_forged_scrc_is_not_the_policy_that_was_evaluated(certified, tmp_path, change, frozen):
    """Every digest is computed again; what it says of itself, or the report, gives it away."""

    def forge_policy(policy):
        change(policy)
        if frozen:
            freeze_again(policy)

    def point(record):
        forged = json.loads((certified / SCRC).read_bytes())
        change(forged)
        record["operating_point"].update(forged["point"])

    refused(
        forge_parts(certified, tmp_path / "f", {SCRC: forge_policy}, record_change=point), "scrc|policy|Scrc"
    )


# What agrees with itself when it is frozen again; the images may tell, see below.
CONSISTENT = {"another calibrator", "another operating point", "a looser threshold"}


@pytest.mark.parametrize(
    "change",
    [pytest.param(change, id=name) for name, change in FORGERIES.items() if name not in CONSISTENT],
)
def test_claims_that_do_not_follow_from_their_counts_are_refused_though_the_report_is_forged_too(
    certified, tmp_path, change
):
    def forge_policy(policy):
        change(policy)
        freeze_again(policy)

    def forge_report(report):
        entry = report["policies"]["scrc"]
        forge_policy(entry["policy"])
        entry["promise"] = entry["policy"]["guarantee"]

    refused(
        forge_parts(certified, tmp_path / "f", {SCRC: forge_policy, "evaluation.json": forge_report}),
        "Value error",
    )


def test_a_calibrator_that_is_forged_everywhere_is_found_by_the_golden_images(scrc_bundle, tmp_path):
    """Nothing contradicts it but the images that it was seen to defer."""

    def forge_policy(policy):
        surer(policy)
        freeze_again(policy)

    forged = forge_parts(
        scrc_bundle, tmp_path / "f",
        {SCRC: forge_policy, "evaluation.json": lambda c: forge_policy(c["policies"]["scrc"]["policy"])},
    )  # fmt: skip
    refused(forged, "decided defer with probability")


def test_the_forged_scrc_is_otherwise_sound(certified, tmp_path):
    changes = {SCRC: freeze_again, "evaluation.json": lambda c: freeze_again(c["policies"]["scrc"]["policy"])}
    verify_bundle(forge_parts(certified, tmp_path / "f", changes, record_change=lambda _: None), deep=True)


def test_a_report_that_promises_something_else_than_its_policy_is_refused(certified, tmp_path):
    def promise(report):
        report["policies"]["scrc"]["promise"] = "It is never wrong."

    refused(forge_part(certified, tmp_path / "f", "evaluation.json", promise), "promise")
