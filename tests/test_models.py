"""Models of every kind, as they lie on disk."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ensembles import learn, make, narrow

from popsbounds.band import BandModel
from popsbounds.config import Formation, Neb, Transformations
from popsbounds.family import Family
from popsbounds.models import Basin, read_structures, write_models

pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING")

PROPERTIES = {
    "formation": Formation(structures=["bcc", "C14"]),
    "path": Transformations(points=5, structures=["tetragonal"]),
    "neb": Neb(repeats=2, images=3, points=5),
}


def test_models_of_every_kind_yield_their_structures(tmp_path):
    """And no others: neither starts, nor centres farther out, nor bases of families that a basin has."""
    mle, thetas = narrow()
    models = {}
    for name, options in PROPERTIES.items():
        models |= learn(make(name, options), name, mle, thetas)[1]
    assert {type(model) for model in models.values()} == {Basin, Family, BandModel}
    assert any(model.family is not None for model in models.values() if isinstance(model, Basin))
    models["C14"] = replace(models["C14"], farther=[models["bcc"]])
    # Beyond the ninth image, too, in their order.
    hop = models["vacancy_hop"]
    images = [image.copy() for image in hop.path * 4]
    for number, image in enumerate(images):
        image.positions += 0.01 * number
    models["vacancy_hop"] = replace(hop, path=images)

    write_models(tmp_path / "models.npz", models)
    found = read_structures(tmp_path / "models.npz")
    assert list(found) == list(models)
    for name, model in models.items():
        if isinstance(model, BandModel):
            expected = model.path
        else:
            expected = [model.base if isinstance(model, Family) else model.coordinates.origin]
        assert len(found[name]) == len(expected)
        for one, other in zip(found[name], expected, strict=True):
            assert (one.numbers == other.numbers).all()
            assert (one.cell[:] == other.cell[:]).all()
            assert (one.positions == other.positions).all()
