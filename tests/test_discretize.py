"""Discretizers: properties that hold for any data."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ttlib import discretize
from ttlib.discretize import Bins, fit, fit_quantile, fit_uniform

METHODS = pytest.mark.parametrize("method", ["uniform", "quantile"])
# A few values repeated make constant columns, two-value columns and duplicates likely.
VALUES = st.one_of(st.sampled_from([-2.0, 0.0, 0.5, 3.0]), st.floats(-1e3, 1e3, width=32))
COLUMNS = hnp.arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 3)), elements=VALUES)
BINS = st.integers(1, 12)
property_test = settings(deadline=None, max_examples=150)


@METHODS
@property_test
@given(data=COLUMNS, bins=BINS)
@example(data=np.zeros((5, 1), np.float32), bins=4)
@example(data=np.array([[0], [0], [0], [1]], np.float32), bins=3)
@example(data=np.array([[0], [1]], np.float32), bins=10)
def test_round_trip_within_the_bin(data, bins, method):
    fitted = fit(data, bins, method)
    tokens = fitted.encode(data)
    assert tokens.dtype == torch.int64 and tokens.min() >= 0 and tokens.max() < bins == fitted.size
    decoded = fitted.decode(tokens).numpy()
    width = np.take_along_axis(np.diff(fitted.edges.numpy(), axis=1), tokens.numpy().T, axis=1).T
    assert (np.abs(decoded - data) <= width / 2 * (1 + 1e-5) + 1e-5 * np.abs(data) + 1e-30).all()


@METHODS
@property_test
@given(data=COLUMNS, bins=BINS, tolerance=st.floats(0.01, 100))
def test_bins_are_near_to_themselves_and_nothing_is_near_to_bins_without_values(data, bins, tolerance, method):
    fitted = fit(data, bins, method)
    reached = fitted.encode(np.concatenate([data, fitted.edges.numpy().T, fitted.midpoints.numpy().T]))
    for dim in range(data.shape[1]):
        near, middles = fitted.nearness(dim, tolerance), fitted.midpoints[dim]
        used = near.diagonal() > 0
        expected = torch.exp(-((middles[:, None] - middles) ** 2) / (2 * tolerance**2))
        torch.testing.assert_close(near, expected * used)
        assert used[fitted.encode(data)[:, dim]].all()
        widths = fitted.edges[dim].diff()
        assert all(widths[bin] > 0 or bin in reached[:, dim] for bin in used.nonzero()[:, 0])


def test_a_crowd_of_near_bins_outweighs_a_lone_likelier_one():
    bins = Bins(torch.tensor([[-1.0, -0.1, -0.05, 0, 0.05, 0.1, 0.9, 1, 1]]))
    probabilities = torch.tensor([0.0, 0.16, 0.17, 0.17, 0.16, 0.0, 0.0, 0.34])
    assert (probabilities @ bins.nearness(0, 0.001)).argmax() == 7
    assert (probabilities @ bins.nearness(0, 0.2)).argmax() in (2, 3)


@METHODS
@property_test
@given(data=COLUMNS, bins=BINS)
def test_encoding_is_monotone(data, bins, method):
    fitted = fit(data, bins, method)
    ordered = np.sort(data, axis=0)
    assert (np.diff(fitted.encode(ordered).numpy(), axis=0) >= 0).all()


@METHODS
@property_test
@given(data=COLUMNS, bins=BINS)
def test_decoded_values_are_a_fixed_point(data, bins, method):
    """Encoding what was decoded changes nothing more."""
    fitted = fit(data, bins, method)
    decoded = fitted.decode(fitted.encode(data))
    assert torch.equal(fitted.decode(fitted.encode(decoded)), decoded)


@METHODS
@property_test
@given(value=st.floats(-1e6, 1e6, width=32), bins=BINS, count=st.integers(1, 20))
def test_a_constant_column_decodes_exactly(value, bins, count, method):
    data = np.full((count, 1), value, np.float32)
    fitted = fit(data, bins, method)
    assert np.array_equal(fitted.decode(fitted.encode(data)).numpy(), data)


@property_test
@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=4, unique=True),
    repeats=st.integers(50, 200),
    seed=st.integers(0, 99),
)
def test_values_that_fill_a_quantile_bin_decode_exactly(values, repeats, seed):
    """Atoms: each value has several bins' share of the data, so two edges lie on it."""
    data = np.random.default_rng(seed).permutation(np.repeat(np.float32(values), repeats))[:, None]
    fitted = fit_quantile(data, 20)
    assert np.array_equal(fitted.decode(fitted.encode(data)).numpy(), data)


def test_an_atom_does_not_swallow_its_neighbours():
    data = np.concatenate([np.zeros(500), np.linspace(0.001, 1, 500)])[:, None]
    fitted = fit_quantile(data, 100)
    decoded = fitted.decode(fitted.encode(data)).numpy()
    assert (decoded[:500] == 0).all()
    assert (decoded[500:] > 0).all() and np.abs(decoded - data).max() < 0.02


@METHODS
def test_a_two_value_column_has_two_tokens(method):
    data = np.array([[0.0]] * 90 + [[1.0]] * 10)
    fitted = fit(data, 100, method)
    tokens = fitted.encode(data).flatten()
    assert len(torch.unique(tokens)) == 2
    np.testing.assert_allclose(fitted.decode(tokens[:, None]), data, atol=0.005 + 1e-6)
    if method == "quantile":
        assert np.array_equal(fitted.decode(tokens[:, None]).numpy(), data.astype(np.float32))


@METHODS
@property_test
@given(data=COLUMNS, bins=BINS, beyond=st.floats(0, 1e6, width=32))
def test_values_outside_go_to_the_outermost_bins(data, bins, beyond, method):
    fitted = fit(data, bins, method)
    low, high = data.min(axis=0), data.max(axis=0)
    assert torch.equal(fitted.encode(low - np.float32(beyond) - 1), torch.zeros(data.shape[1], dtype=torch.int64))
    above = fitted.encode(high + np.float32(beyond) + 1)
    assert torch.equal(above, torch.full((data.shape[1],), bins - 1))


@METHODS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(method, value):
    data = np.arange(10.0)[:, None]
    fitted = fit(data, 4, method)
    with pytest.raises(ValueError, match="must be finite"):
        fitted.encode([[value]])
    data[3] = value
    with pytest.raises(ValueError, match="not finite"):
        fit(data, 4, method)


def test_uniform_bins_have_equal_width_and_quantile_bins_equal_shares():
    data = np.random.default_rng(0).exponential(size=(10_000, 2)).astype(np.float32)
    uniform, quantile = fit_uniform(data, 50), fit_quantile(data, 50)
    widths = np.diff(uniform.edges.numpy(), axis=1)
    np.testing.assert_allclose(widths, np.broadcast_to(widths.mean(axis=1, keepdims=True), widths.shape), rtol=1e-3)
    for dim in range(2):
        counts = torch.bincount(quantile.encode(data)[:, dim], minlength=50)
        assert counts.min() >= 195 and counts.max() <= 205
    assert (quantile.edges[:, 0].numpy() == data.min(axis=0)).all()
    assert (quantile.edges[:, -1].numpy() == data.max(axis=0)).all()


def test_some_dimensions_only():
    data = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    fitted = fit_quantile(data, 10)
    whole = fitted.encode(data)
    assert torch.equal(fitted.encode(data[:, 1:3], slice(1, 3)), whole[:, 1:3])
    assert torch.equal(fitted.decode(whole[:, 1:3], slice(1, 3)), fitted.decode(whole)[:, 1:3])
    assert torch.equal(fitted.encode(data.reshape(4, 50, 5)), whole.reshape(4, 50, 5))


def test_expectation_is_the_weighted_mean_of_midpoints():
    fitted = Bins(torch.tensor([[0.0, 1.0, 3.0], [0.0, 10.0, 20.0]]))
    probabilities = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    assert fitted.expectation(probabilities, 0).tolist() == [0.5, 0.25 * 0.5 + 0.75 * 2]
    assert fitted.expectation(probabilities, 1).tolist() == [5, 12.5]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit(np.zeros((3, 2)), 4, "kmeans"), "no discretizer 'kmeans'; there are uniform and quantile"),
        (lambda: fit(np.zeros((3, 2)), 0), "at least one bin"),
        (lambda: fit(np.zeros((0, 2))), "not empty"),
        (lambda: fit(np.zeros(3)), "not empty"),
        (lambda: fit(np.zeros((3, 2))).encode(np.zeros((3, 4))), "for 2 dimensions, the values have 4"),
        (lambda: Bins(torch.tensor([[0.0, 2.0, 1.0]])), "never falls"),
    ],
)
def test_wrong_calls_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_methods_are_listed():
    assert set(discretize.FITS) == {"uniform", "quantile"}
