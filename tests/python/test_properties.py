"""The properties of properties.py, a little of each; scripts/fuzz searches for longer."""

import numpy as np
import pytest

import properties


@pytest.mark.parametrize("holds", properties.PROPERTIES, ids=lambda p: p.__name__)
@pytest.mark.filterwarnings("ignore:.*nested tensors.*:UserWarning", "ignore:.*[Ss]parse.*:UserWarning")
def test_property(holds):
    with np.errstate(all="ignore"):  # of numpy, when a test asks whether a signalling NaN is finite
        properties.SUITE(holds)()
