"""The registry knows how to read every kind of policy in the table of the graph."""

import pytest
from pydantic import ValidationError

from streetvision_core.graph import POLICIES, STEPS
from streetvision_core.io.records import Record
from streetvision_core.policies import registry
from streetvision_core.policies.registry import AnyPolicy
from tests.bundle.chain import FITS
from tests.bundle.made import make_policies


class Holder(Record):
    policy: AnyPolicy


def test_every_kind_of_the_table_is_read_here_and_fitted_by_a_step():
    assert registry._KINDS.keys() == POLICIES.keys()
    assert {kind.step for kind in POLICIES.values()} <= STEPS.keys()


def test_every_kind_is_fitted_for_the_tests_of_reports_and_bundles():
    assert FITS.keys() == POLICIES.keys(), "tests/bundle/chain.py fits each kind on a chain"
    assert make_policies().keys() == POLICIES.keys(), "tests/bundle/made.py fits each kind on drawn logits"


@pytest.mark.parametrize(
    "policy", ['{"type": "oracle"}', '{"type": []}', "{}", '{"type": "gate"}', "1", "null", '"gate"']
)
def test_what_is_no_policy_is_refused_as_a_field_of_a_record(policy):
    with pytest.raises(ValidationError):
        Holder.model_validate_json(f'{{"policy": {policy}}}')
