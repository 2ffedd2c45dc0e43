import numpy as np

from studio.checking.judge import odd_ones
from studio.likeness.base import Scale


def test_two_photos_alone_do_not_tell_who_is_the_odd_one() -> None:
    rows = np.array([[1, 0], [0, 1]], dtype=np.float32)
    scores, odd = odd_ones(rows, Scale(other=0.2, same=0.9))
    assert not odd.any()
    assert (scores < 0).all()
