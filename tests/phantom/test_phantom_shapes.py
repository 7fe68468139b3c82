"""Planes, random fields and distances that the synthetic heads are drawn with."""

import numpy as np
import pytest

from src.phantom.shapes import Lattice, Slab, capsule, coverage, ellipsoid, smooth_noise


def tilted_slab(rng: np.random.Generator, room: float = 0.0) -> Slab:
    """Three planes of 60 x 50 pixels of 1.1 mm, turned at random."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    right, down = turn[:, 0], turn[:, 1]
    return Slab(rng.normal(0, 20, 3), right, down, np.cross(right, down), 1.1, (3, 60, 50), 2.0, room)


def test_coverage_is_half_on_the_edge_and_linear_across_it():
    assert coverage(np.array([-2.0, -0.25, 0.0, 0.25, 2.0]), 1.0).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_coordinates_follow_the_axes():
    slab = tilted_slab(np.random.default_rng(0))
    expected = slab.origin + 2 * 2.0 * slab.normal + 7 * 1.1 * slab.down + 11 * 1.1 * slab.right
    assert slab.coordinates()[:, 2, 7, 11] == pytest.approx(expected, abs=1e-4)


def test_z_is_the_height_of_the_middle_of_every_plane():
    slab = tilted_slab(np.random.default_rng(1))
    assert slab.z.ravel() == pytest.approx(slab.coordinates()[2].mean(axis=(1, 2)), abs=1.0)


def test_a_crop_holds_the_same_positions():
    slab = tilted_slab(np.random.default_rng(2))
    box = (..., slice(5, 30), slice(8, 21))
    assert slab.crop(box).coordinates() == pytest.approx(slab.coordinates()[box], abs=1e-4)


@pytest.mark.parametrize("seed", range(40))
def test_a_box_holds_every_pixel_of_an_ellipsoid(seed):
    rng = np.random.default_rng(seed)
    slab, radii = tilted_slab(rng), rng.uniform(2, 25, 3)
    center = slab.coordinates()[:, 1, 30, 25] + rng.normal(0, 25, 3)
    inside = ellipsoid(slab.coordinates(), center, radii) < 0
    box = slab.box(center, radii)
    assert inside.sum() == (0 if box is None else inside[box].sum())


@pytest.mark.parametrize("seed", range(40))
def test_a_box_holds_every_pixel_of_a_tube(seed):
    rng = np.random.default_rng(seed)
    slab = tilted_slab(rng)
    start, stop = slab.coordinates()[:, 1, 30, 25] + rng.normal(0, 25, (2, 3))
    inside = capsule(slab.coordinates(), start, stop, 3.0, 5.0) < 0
    box = slab.tube_box(start, stop, 5.0)
    assert inside.sum() == (0 if box is None else inside[box].sum())


@pytest.mark.parametrize("pixel", np.linspace(0.8, 1.1, 60).tolist())
def test_a_box_around_the_whole_slab_reaches_its_last_row_and_column(pixel):
    slab = Slab(np.zeros(3), *np.eye(3), pixel, (2, 203, 171), 2.0, 0.0)
    whole = (..., slice(0, 203), slice(0, 171))
    assert slab.box((90, 90, 0), 300) == slab.tube_box((0, 0, 0), (180, 220, 0), 90.0) == whole


def test_room_widens_a_box_on_all_sides():
    rng = np.random.default_rng(3)
    slab, wide = tilted_slab(rng), tilted_slab(np.random.default_rng(3), room=4.4)
    center = slab.coordinates()[:, 1, 30, 25]
    (_, rows, columns), (_, more_rows, more_columns) = slab.box(center, 10), wide.box(center, 10)
    assert (rows.start - more_rows.start, more_columns.stop - columns.stop) == (4, 4)


def test_a_ball_and_a_tube_are_measured_in_millimetres():
    points = np.array([[0, 3, 0], [0, 0, 10], [9, 0, 5]], np.float32).T[:, :, None, None]  # as a stack
    assert ellipsoid(points, (0, 0, 5), (4, 4, 4)).ravel() == pytest.approx([np.sqrt(34) - 4, 1, 5], abs=1e-4)
    assert capsule(points, (0, 0, 0), (0, 0, 10), 1.0, 3.0).ravel() == pytest.approx([2, -3, 7], abs=1e-5)


def test_an_ellipsoid_is_exact_along_its_axes():
    points = np.diag([7.0, 12.0, 20.0]).astype(np.float32)[:, :, None, None]
    assert ellipsoid(points, (0, 0, 0), (5, 9, 16)).ravel() == pytest.approx([2, 3, 4], abs=1e-4)


def test_a_random_field_has_unit_variance_between_its_nodes_too():
    rng = np.random.default_rng(4)
    x, y = rng.uniform(-90, 90, (2, 1, 200, 200)).astype(np.float32)
    for z in (0.0, 1.5, 3.0):
        values = [
            Lattice(smooth_noise(rng, (8, 26, 26)), 6.0).sample(x, y, np.full((1, 1, 1), z))
            for _ in range(20)
        ]
        assert np.mean(np.square(values)) == pytest.approx(0.75, abs=0.15)


def test_a_texture_is_the_field_of_the_middle_plane():
    rng = np.random.default_rng(5)
    slab = Slab(np.array([-40.0, -40, 0]), *np.eye(3), 1.0, (3, 80, 80), 2.0, 0.0)
    x, y, _ = slab.coordinates()
    lattice = Lattice(smooth_noise(rng, (8, 12, 12)), 20.0)
    error = lattice.texture(x, y, slab.z) - lattice.sample(x, y, slab.z)[1]
    assert np.sqrt(np.mean(error**2)) < 0.05
