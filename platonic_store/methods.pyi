"""Every question as a method of `Store`. Made by `make docs` from the declarations."""

from platonic_store.questions.align import align
from platonic_store.questions.analogy import analogy
from platonic_store.questions.bias import bias
from platonic_store.questions.collapsed_pairs import collapsed_pairs
from platonic_store.questions.committee import committee
from platonic_store.questions.compare_sets import compare_sets
from platonic_store.questions.coverage import coverage
from platonic_store.questions.disagreement import disagreement
from platonic_store.questions.embedding import embedding
from platonic_store.questions.moved import moved
from platonic_store.questions.near_duplicates import near_duplicates
from platonic_store.questions.neighbours import neighbours
from platonic_store.questions.outliers import outliers
from platonic_store.questions.screen import screen
from platonic_store.questions.screen_limits import screen_limits
from platonic_store.questions.shared.declaration import Method
from platonic_store.questions.similar import similar
from platonic_store.questions.stitch import stitch
from platonic_store.questions.stitch_head import stitch_head
from platonic_store.questions.transport import transport
from platonic_store.questions.transport_distance import transport_distance
from platonic_store.questions.typicality import typicality

class Questions:
    """The questions; each is asked of the newest published state."""

    align = Method(align)
    analogy = Method(analogy)
    bias = Method(bias)
    collapsed_pairs = Method(collapsed_pairs)
    committee = Method(committee)
    compare_sets = Method(compare_sets)
    coverage = Method(coverage)
    disagreement = Method(disagreement)
    embedding = Method(embedding)
    moved = Method(moved)
    near_duplicates = Method(near_duplicates)
    neighbours = Method(neighbours)
    outliers = Method(outliers)
    screen = Method(screen)
    screen_limits = Method(screen_limits)
    similar = Method(similar)
    stitch = Method(stitch)
    stitch_head = Method(stitch_head)
    transport = Method(transport)
    transport_distance = Method(transport_distance)
    typicality = Method(typicality)
