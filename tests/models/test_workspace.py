import pytest
import torch

from lm_offload.models.workspace import Workspace


def test_views_are_aligned_and_do_not_overlap():
    workspace = Workspace(torch.zeros(256))
    first, second = workspace.take(3, 7), workspace.take(2, 4)
    first.fill_(1)
    second.fill_(2)
    assert first.shape == (3, 7)
    assert first.is_contiguous()
    assert bool((first == 1).all())
    assert (second.data_ptr() - first.data_ptr()) % 64 == 0
    assert workspace.peak == 48


def test_reset_reuses_the_memory_and_keeps_the_peak():
    workspace = Workspace(torch.zeros(64))
    pointer = workspace.take(64).data_ptr()
    workspace.reset()
    assert workspace.take(1).data_ptr() == pointer
    assert workspace.peak == 64


def test_same_request_gets_the_same_view_again():
    workspace = Workspace(torch.zeros(64))
    first = workspace.take(2, 8), workspace.take(3)
    workspace.reset()
    again = workspace.take(2, 8), workspace.take(3)
    assert again[0] is first[0]
    assert again[1] is first[1]
    workspace.reset()
    assert workspace.take(4, 4).data_ptr() == first[0].data_ptr()


def test_views_are_right_however_many_shapes_were_asked_for():
    workspace = Workspace(torch.zeros(2048))
    for width in [*range(1, 1500), *range(1, 1500)]:
        workspace.reset()
        assert workspace.take(width).shape == (width,)
        assert workspace.take(2, 3).shape == (2, 3)


def test_exhaustion_names_what_was_wanted():
    workspace = Workspace(torch.zeros(32))
    workspace.take(16)
    with pytest.raises(RuntimeError, match=r"48 floats wanted for \(2, 16\), 32 available"):
        workspace.take(2, 16)
