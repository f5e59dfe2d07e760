from io import BytesIO

import numpy as np
import pytest
from scipy.special import logsumexp

from platonic_store.geometry import hubs
from platonic_store.geometry.neighbours import nearest, nearest_to_one, row_lengths, unit_rows
from platonic_store.geometry.retrieval import retrieval, retrieval_matrix

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(300, 12)).astype(np.float32)
SEEN = hubs.Seen.of(RNG.normal(size=(3, 90, 12)))
SAMPLE = SEEN.by_others(1)
SCORES = hubs.hubness(POINTS, SAMPLE)


def test_a_hub_score_is_the_inverted_softmax_over_what_the_others_see():
    others = unit_rows(SEEN.coordinates[[0, 2]].astype(float).mean(0))
    cosines = unit_rows(POINTS) @ others.T
    expected = 1.5 * logsumexp(400 * cosines, axis=1, b=1 / len(others)) / 400
    np.testing.assert_allclose(SCORES, expected, atol=1.5e-5)
    np.testing.assert_array_equal(hubs.hubness(4 * POINTS, SAMPLE), SCORES)
    few = hubs.hubness(POINTS, SAMPLE._replace(share=0.25))
    np.testing.assert_allclose(few, SCORES / 4, atol=1e-5)


def test_an_older_spaces_scores_stay_the_mean_cosine_with_the_ten_nearest():
    older = BytesIO()
    rows = unit_rows(SEEN.coordinates[0]).astype(np.float16)
    model = np.arange(90, dtype=np.int8) % 3
    np.savez(older, atom_rows=rows, atom_model=model, atom_share=np.array(0.25))
    sample = hubs.from_bytes(older.getvalue(), "atom", 1)
    cosines = np.sort(unit_rows(POINTS) @ rows[model != 1].astype(float).T, axis=1)[:, -10:].mean(1)
    np.testing.assert_allclose(hubs.hubness(POINTS, sample), cosines / 2, atol=1.5e-5)


def test_a_row_has_the_same_score_alone_as_among_others():
    alone = np.concatenate([hubs.hubness(row[None], SAMPLE) for row in POINTS[:20]])
    np.testing.assert_allclose(SCORES[:20], alone, atol=1.5e-5)


@pytest.mark.parametrize("count", [3, 200])  # below and above what single precision is for
def test_the_nearest_by_hub_scores_are_those_of_brute_force(count):
    queries = RNG.normal(size=(count, 12))
    corrected = 1 - unit_rows(queries) @ unit_rows(POINTS).T + SCORES / 2
    expected = np.argsort(corrected, axis=1)[:, :7]
    index, distance = nearest(queries, POINTS, 7, SCORES)
    np.testing.assert_array_equal(index, expected)
    cosines = np.take_along_axis(unit_rows(queries) @ unit_rows(POINTS).T, expected, axis=1)
    np.testing.assert_allclose(distance, 1 - cosines, atol=1e-9)
    one = nearest_to_one(queries[0], POINTS, row_lengths(POINTS), 7, hubs=SCORES)
    np.testing.assert_array_equal(one[0], expected[0])
    np.testing.assert_allclose(one[1], distance[0], atol=1e-12)


def test_a_hub_no_longer_answers_for_everybody():
    middle = np.eye(40)[0]
    truth = unit_rows(middle + unit_rows(RNG.normal(size=(400, 40))))
    asks, answers = (truth + 0.08 * RNG.normal(size=truth.shape) for _ in range(2))
    answers[:20] = middle + 0.05 * answers[:20]  # twenty atoms collapse to the middle
    found = hubs.hubness(answers, hubs.Seen.of([asks]).by_others(None))
    assert retrieval(asks, answers, 1, found) > retrieval(asks, answers, 1)
    assert retrieval_matrix(asks, answers, 1, found).diagonal().mean() == pytest.approx(
        retrieval(asks, answers, 1, found)
    )


def test_samples_survive_being_stored():
    content = hubs.to_bytes({"atom": SEEN._replace(share=0.5)})
    for model in (None, 1):
        stored = hubs.from_bytes(content, "atom", model)
        np.testing.assert_array_equal(stored.rows, SEEN.by_others(model).rows)
        assert stored[1:] == (0.5, SAMPLE.sharpness)
