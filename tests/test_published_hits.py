"""The papers' hit counts, as they were read off their figures: every curve at every K."""

from __future__ import annotations

import pandas as pd
from conftest import ROOT

COUNTS = """
depara-2020 taskonomy depara-nodes
    13 30 39 53 60 67 70 74 75 75 78 80 83 83 83 83 85 88 90
depara-2020 taskonomy depara-edges
    15 32 47 59 68 73 76 77 84 84 84 84 84 85 87 88 89 90 90
depara-2020 taskonomy depara
    16 33 48 61 68 73 76 77 83 84 85 85 85 86 87 89 89 90 90
depara-2020 taskonomy rsa
    15 32 46 59 66 73 75 75 84 84 84 84 84 87 88 88 89 90 90
depara-2020 coco depara-nodes
    15 27 41 54 67 71 72 74 76 79 81 82 84 84 85 86 86 87 90
depara-2020 coco depara-edges
    14 27 39 49 59 64 69 72 74 76 79 83 83 85 86 86 89 89 90
depara-2020 coco depara
    15 29 43 56 69 75 75 78 78 80 84 86 86 87 87 88 88 89 90
depara-2020 coco rsa
    15 27 39 49 60 64 68 71 72 74 79 83 84 85 86 87 88 89 90
depara-2020 indoor depara-nodes
    15 32 44 52 62 72 77 79 80 80 81 82 84 84 84 85 86 87 90
depara-2020 indoor depara-edges
    18 33 47 61 69 76 79 82 84 84 86 86 86 86 88 89 90 90 90
depara-2020 indoor depara
    18 33 48 64 72 77 82 84 84 85 87 87 87 87 88 89 90 90 90
depara-2020 indoor rsa
    18 32 45 60 70 77 82 84 84 84 85 86 88 88 88 89 90 90 90
attribution-maps-2019 taskonomy depara-nodes:saliency
    12 21 32 38 47 51 56 59 63 66 69 72 74 79 82 83 86 87 90
attribution-maps-2019 taskonomy depara-nodes:input_x_gradient
    13 30 39 53 60 67 70 74 75 75 78 80 83 83 83 83 85 88 90
attribution-maps-2019 taskonomy depara-nodes:lrp_epsilon
    13 30 39 53 60 67 70 74 75 76 78 80 83 83 83 83 85 88 90
attribution-maps-2019 coco depara-nodes:saliency
    14 28 38 48 56 61 65 66 71 72 73 74 77 79 84 84 86 87 90
attribution-maps-2019 coco depara-nodes:input_x_gradient
    15 27 41 54 67 71 72 74 76 79 81 82 84 84 85 86 86 87 90
attribution-maps-2019 coco depara-nodes:lrp_epsilon
    14 27 41 54 67 71 72 74 76 79 81 82 84 84 85 86 86 87 90
attribution-maps-2019 indoor depara-nodes:saliency
    14 26 35 45 55 62 65 68 72 74 75 77 78 79 80 84 86 87 90
attribution-maps-2019 indoor depara-nodes:input_x_gradient
    15 32 44 52 62 72 77 79 80 80 81 82 84 84 84 85 86 87 90
attribution-maps-2019 indoor depara-nodes:lrp_epsilon
    15 32 44 52 62 72 77 79 80 80 81 82 84 84 85 85 86 87 90
attribution-maps-2019 taskonomy svcca
    12 26 37 50 58 65 73 75 79 82 86 88 88 90 90 90 90 90 90
"""


def test_every_published_count():
    """Paper, probe, method: hits over 18 targets among the first K sources, K = 1 to 19."""
    table = pd.read_csv(ROOT / "zoo" / "taskonomy" / "published" / "hits.csv")
    assert list(table.columns) == ["paper", "probe", "method", "k", "hits"]
    found = table.set_index(["paper", "probe", "method", "k"])["hits"]
    assert found.index.is_unique
    lines = COUNTS.strip().splitlines()
    expected = {
        (*name.split(), k): int(hits)
        for name, line in zip(lines[::2], lines[1::2], strict=True)
        for k, hits in enumerate(line.split(), start=1)
    }
    assert found.to_dict() == expected and len(expected) == 22 * 19
