import torch
from diffusers import Flux2KleinPipeline, FluxPipeline

from studio.diffusion.packing import grid, patchify, positions, tokens, unpatchify

LATENTS = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))


def test_tokens_are_packed_as_the_pipelines_pack_them() -> None:
    packed = tokens(patchify(LATENTS))
    assert torch.equal(packed, FluxPipeline._pack_latents(LATENTS, 2, 4, 6, 8))
    assert torch.equal(patchify(LATENTS), Flux2KleinPipeline._patchify_latents(LATENTS))


def test_unpacking_gives_the_latents_back() -> None:
    assert torch.equal(unpatchify(grid(tokens(patchify(LATENTS)), (3, 4))), LATENTS)


def test_every_token_knows_its_row_and_column() -> None:
    device = torch.device("cpu")
    flux = FluxPipeline._prepare_latent_image_ids(2, 3, 4, device, torch.float32)
    assert torch.equal(positions((3, 4), 3, device), flux)
    klein = Flux2KleinPipeline._prepare_latent_ids(patchify(LATENTS))[0]
    assert torch.equal(positions((3, 4), 4, device), klein.float())
