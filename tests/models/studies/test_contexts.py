"""Contexts against published sizes and their definitions."""

import torch

from src.models.studies.contexts import BiRecurrent, SliceTransformer, SummedRecurrent, sines


def test_recurrent_networks_have_their_published_sizes():
    """VinBDI's BiLSTM on 2048 features (arXiv 2005.10992); Burduja's three layers on 126 columns."""
    assert sum(p.numel() for p in BiRecurrent("lstm", 2048, 512, 2, 0.0).parameters()) == 16_793_600
    assert sum(p.numel() for p in BiRecurrent("lstm", 126, 256, 3, 0.3).parameters()) == 3_940_352


def test_the_sums_of_the_second_place():
    torch.manual_seed(0)
    model = SummedRecurrent("lstm", 6, 4, 2, 0.0)
    x, mask = torch.randn(1, 5, 6), torch.ones(1, 5, dtype=torch.bool)
    first = model.layers[0].recurrent(x)[0]
    second = model.layers[1].recurrent(first)[0]
    expected = model.skip(x) + first + second + model.dense[0](first).relu() + model.dense[1](second).relu()
    torch.testing.assert_close(model(x, mask), expected)


def test_without_padding_the_packed_way_gives_the_same():
    torch.manual_seed(0)
    model = BiRecurrent("gru", 6, 4, 2, 0.0).eval()
    x = torch.randn(3, 7, 6)
    padded = torch.cat([x, torch.full((3, 2, 6), 9.0)], 1)
    full, some = torch.ones(3, 7, dtype=torch.bool), torch.zeros(3, 9, dtype=torch.bool)
    some[:, :7] = True
    torch.testing.assert_close(model(padded, some)[:, :7], model(x, full))


def test_a_study_longer_than_the_reach_of_the_distance_bias():
    for encoding in ("relative", "absolute"):
        transformer = SliceTransformer(16, 8, 1, 4, 0.0, encoding).eval()
        out = transformer(torch.randn(1, 300, 16), torch.ones(1, 300, dtype=torch.bool))
        assert out.shape == (1, 300, 16)
        assert out.isfinite().all()


def test_the_distance_bias_makes_a_mirrored_study_a_mirrored_answer():
    """It starts symmetric, and nothing else knows the direction."""
    torch.manual_seed(0)
    transformer = SliceTransformer(16, 8, 2, 4, 0.0).eval()
    x, mask = torch.randn(1, 9, 16), torch.ones(1, 9, dtype=torch.bool)
    torch.testing.assert_close(transformer(x.flip(1), mask), transformer(x, mask).flip(1))


def test_sines_tell_every_place_from_every_other():
    places = sines(torch.arange(200), 16)
    assert torch.cdist(places, places).fill_diagonal_(1).min() > 0.05
    waves = [1.0, 0.1, 0.01, 0.001]  # one slice further on the shortest wave, ..., on the longest
    expected = torch.cat([torch.sin(torch.tensor(waves)), torch.cos(torch.tensor(waves))])
    torch.testing.assert_close(sines(torch.tensor([1]), 8), expected[None])
    torch.testing.assert_close(sines(torch.tensor([1]), 1), torch.sin(torch.ones(1, 1)))
