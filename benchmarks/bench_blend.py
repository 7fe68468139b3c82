"""Blend weights and patient bootstrap at full size against the usual code.   python -m benchmarks.bench_blend

The members, labels and patients are random with the training set's size and prevalence; only time is read
from them.  Everything runs on one thread and is measured in seconds of CPU time.
"""

import os
import resource
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy.optimize import minimize as scipy_minimize
from scipy.special import expit
from sklearn.metrics import log_loss

from benchmarks.record import record
from src.command_line import argument_parser
from src.evaluation.blend import fit_blend
from src.evaluation.blending.simplex import minimise, negative_log
from src.evaluation.bootstrap import bootstrap_weighted_log_loss
from src.evaluation.metrics import WEIGHTS, likelihood, weighted_log_loss
from src.labels import LABELS

PATIENTS = 18_938
EPS = 1e-7


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=752_803)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--nested-members", type=int, default=20, help="of the cross-fitted blend")
    args = parser.parse_args()
    entries = [blend(args.images, args.members), *metric_and_bootstrap(args.images)]
    nested(args.images, args.nested_members)
    for result in entries:
        print("{part}: {ours:.4g} {unit}, {ratio:.1f}x {reference_name}".format(**result))
    record(entries)


def blend(images: int, members: int) -> dict[str, Any]:
    """Weights of every label, no cross-fitting on either side; losses must agree."""
    ours = peer = 0.0
    for column, label in enumerate(LABELS):
        y, p = one_label(images, members, column)
        seconds, optimum = timed(lambda y=y, p=p: fit_label(y, p))
        peer_seconds, found = timed(lambda y=y, p=p: slsqp(y, p))
        ours, peer = ours + seconds, peer + peer_seconds
        print(
            f"{label}: loss {optimum.loss:.8f}, {seconds:.3f} s; SLSQP {found.fun:.8f}, {peer_seconds:.1f} s"
        )
        if optimum.loss > found.fun + 1e-6:
            raise SystemExit(f"{label}: the loss is {optimum.loss - found.fun:.1e} above SLSQP's")
    return entry("blend", ours, peer, "s", f"scipy SLSQP, numeric gradient, {members} x {images} x 6")


def fit_label(y: np.ndarray, p: np.ndarray) -> Any:
    values = np.stack([likelihood(y, member, EPS) for member in p]).astype(np.float32)
    return minimise(values, [(0, len(y))], negative_log)


def slsqp(y: np.ndarray, p: np.ndarray) -> Any:
    """The usual code: float64 loss on whole arrays, numeric gradient."""

    def loss(w: np.ndarray) -> float:
        mixed = np.clip((p.astype(np.float64) * w[:, None]).sum(axis=0), EPS, 1 - EPS)
        return float(-np.mean(np.where(y, np.log(mixed), np.log(1 - mixed))))

    return scipy_minimize(
        loss,
        np.full(len(p), 1 / len(p)),
        method="SLSQP",
        bounds=[(0, 1)] * len(p),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-9, "maxiter": 100},
    )


def metric_and_bootstrap(images: int, peer_replicates: int = 3) -> list[dict[str, Any]]:
    """Scoring 6 labels, and one bootstrap replicate of the score."""
    labels, members, patients = tables(images, 1)
    p = members["m0"]
    ours = median_time(lambda: weighted_log_loss(labels, p))
    peer = median_time(lambda: WEIGHTS @ [log_loss(labels[label], p[label]) for label in LABELS])
    replicate, _ = timed(lambda: bootstrap_weighted_log_loss(labels, p, patients, replicates=1000))
    rows = np.split(np.argsort(patients, kind="stable"), np.cumsum(np.bincount(patients))[:-1])
    rng = np.random.default_rng(0)

    def one_by_one() -> None:
        for _ in range(peer_replicates):
            drawn = np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))])
            WEIGHTS @ [
                log_loss(labels[label].to_numpy()[drawn], p[label].to_numpy()[drawn]) for label in LABELS
            ]

    peer_replicate, _ = timed(one_by_one)
    return [
        entry("metric", ours, peer, "s", "scikit-learn log_loss per label"),
        entry(
            "bootstrap", replicate, 1000 * peer_replicate / peer_replicates, "s per 1000 replicates",
            "resampled rows, scikit-learn log_loss",
        ),
    ]  # fmt: skip


def nested(images: int, members: int) -> None:
    """The whole of fit_blend: cross-fitting, member scores and the decision; printed only, no code does the
    same."""
    labels, frames, patients = tables(images, members)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds, fitted = timed(lambda: fit_blend(labels, frames, patients))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"fit_blend, {members} members, 5 folds: {seconds:.1f} s, peak {peak:.2f} GiB (before: {before:.2f})"
    )
    print(fitted.decision)


def one_label(images: int, members: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """y (images,) bool, p (members, images) float32 of members with different skill and calibration."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-7, 4, images)
    y = rng.random(images) < expit(z)
    skill, noise = rng.uniform(0.7, 1.2, members), rng.uniform(0.5, 2, members)
    p = [expit(z * a + rng.normal(0, b, images)) for a, b in zip(skill, noise, strict=True)]
    return y, np.stack(p).astype(np.float32)


def tables(images: int, members: int) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], pd.Series]:
    index = pd.Index([f"ID_{k:09x}" for k in range(images)], name="image_id")
    columns = [one_label(images, members, seed) for seed in range(len(LABELS))]
    labels = pd.DataFrame(
        {name: y.astype("int8") for name, (y, _) in zip(LABELS, columns, strict=True)}, index
    )
    frames = {
        f"m{m}": pd.DataFrame({name: p[m] for name, (_, p) in zip(LABELS, columns, strict=True)}, index)
        for m in range(members)
    }
    return labels, frames, pd.Series(np.arange(images) * min(PATIENTS, images) // images, index)


def entry(part: str, ours: float, reference: float, unit: str, name: str) -> dict[str, Any]:
    return {
        "part": part, "ours": ours, "reference": reference, "unit": unit,
        "ratio": reference / ours, "reference_name": name,
    }  # fmt: skip


def median_time(run: Callable[[], Any], repeats: int = 5) -> float:
    return float(np.median([timed(run)[0] for _ in range(repeats)]))


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


if __name__ == "__main__":
    main()
