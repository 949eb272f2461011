"""Properties of the Python faces, for any input that hypothesis can think of.

``right_calls.py``, ``wrong_calls.py``, the same of blocks and ``confined_calls.py`` hold them. ``test_properties.py``
tries each a little in every test run; ``fuzz_properties.py`` searches for as long as it is told.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from block_calls import (
    blocks_dequantize_as_the_model,
    blocks_quantize_as_the_model,
    blocks_quantize_dequantize_as_the_model,
    containers_hold_what_the_model_gives,
    parameters_of_blocks_equal_the_model,
)
from block_wrong_calls import (
    any_arguments_of_blocks_are_right_or_refused,
    any_dict_is_read_or_refused,
    modes_of_torch_change_nothing_of_blocks_or_refuse,
    parameters_are_taken_if_they_fit,
    parameters_without_plain_elements_are_refused,
    what_overlaps_is_refused,
)
from confined_calls import little_memory_is_enough_or_a_memory_error, little_stack_changes_nothing
from right_calls import (
    dequantize_equals_the_model,
    parameters_equal_the_model,
    quantize_dequantize_equals_the_model,
    quantize_equals_the_model,
    quantized_tensors_carry_the_codes,
)
from wrong_calls import (
    any_arguments_are_right_or_refused,
    any_output_is_right_or_refused,
    masked_arrays_are_refused,
    modes_of_torch_change_nothing_or_refuse,
    names_of_dtypes_are_known_or_refused,
    negated_outputs_are_refused,
    tensors_carry_the_parameters_of_the_call,
    tensors_without_plain_elements_are_refused,
)

PROPERTIES = (
    quantize_equals_the_model,
    quantized_tensors_carry_the_codes,
    dequantize_equals_the_model,
    quantize_dequantize_equals_the_model,
    parameters_equal_the_model,
    any_arguments_are_right_or_refused,
    any_output_is_right_or_refused,
    tensors_without_plain_elements_are_refused,
    negated_outputs_are_refused,
    tensors_carry_the_parameters_of_the_call,
    masked_arrays_are_refused,
    modes_of_torch_change_nothing_or_refuse,
    names_of_dtypes_are_known_or_refused,
    blocks_quantize_as_the_model,
    blocks_dequantize_as_the_model,
    blocks_quantize_dequantize_as_the_model,
    parameters_of_blocks_equal_the_model,
    containers_hold_what_the_model_gives,
    any_arguments_of_blocks_are_right_or_refused,
    parameters_are_taken_if_they_fit,
    parameters_without_plain_elements_are_refused,
    modes_of_torch_change_nothing_of_blocks_or_refuse,
    what_overlaps_is_refused,
    any_dict_is_read_or_refused,
    little_stack_changes_nothing,
    little_memory_is_enough_or_a_memory_error,
)

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example, HealthCheck.filter_too_much]
# The same examples every time, for the test suite. Settings, not a profile: properties take the profile that is loaded
# when they are defined.
SUITE = settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=CHECKS)
