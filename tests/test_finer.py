import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.models import random_model, random_tokens
from ttlib.discretize import Bins, fit_quantile, fit_uniform
from ttlib.finer import parts_between, split_words
from ttlib.tokens import Layout


def test_finer_words_begin_with_the_same_densities():
    model = random_model(Layout(3, 2, goal=1))
    finer = split_words(model, 3).eval()
    fine = random_tokens(finer, 4, model.layout.length(5))
    with torch.inference_mode():
        coarse, split = (F.softmax(logits[..., :-1], dim=-1) for logits in (model(fine // 3), finer(fine)))
    assert finer.vocabulary == 60 and torch.allclose(split.unflatten(-1, (20, 3)).sum(dim=-1), coarse, atol=1e-6)
    assert torch.allclose(split[..., ::3], split[..., 2::3])


def test_the_stop_token_keeps_its_vectors():
    model = random_model(Layout(3, 2))
    finer = split_words(model, 2)
    assert torch.equal(finer.embedding.weight[-1], model.embedding.weight[-1])
    assert torch.equal(finer.head[:, -1], model.head[:, -1])
    with pytest.raises(ValueError, match="at least one part"):
        split_words(model, 0)


def test_only_bins_that_are_cut_into_parts_count():
    data = np.random.default_rng(0).normal(size=(1000, 3))
    coarse = fit_uniform(data, 10)
    assert parts_between(coarse, fit_uniform(data, 30)) == 3 and parts_between(coarse, coarse) == 1
    assert parts_between(coarse, fit_uniform(data, 25)) == 0
    assert parts_between(coarse, fit_quantile(data, 30)) == 0
    assert parts_between(coarse, fit_uniform(data + 1, 30)) == 0
    assert parts_between(coarse, Bins(fit_uniform(data, 30).edges[:2])) == 0


def test_quantile_bins_are_cut_where_they_were():
    data = np.random.default_rng(0).normal(size=(1201, 3))
    assert parts_between(fit_quantile(data, 10), fit_quantile(data, 20)) == 2
