"""DVT step 1 on images: the artifact is removed, faults stay with their image, parameters are checked."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from stages.backbone.networks.interface import Features
from stages.denoise.config import DenoiseConfig, DenoiserConfig, heads_for
from stages.denoise.per_image.denoise import Denoised, chosen_images, denoise_images
from stages.types import UserError
from tests.stages.denoise.synthetic import PatchMeans, picture

DIGEST = "0123456789abcdef"


def denoise_image(image, backbone, config, seed=0, digest=DIGEST) -> Denoised:
    """Denoise one image; its error is raised."""
    (result,) = denoise_images([image], [digest], backbone, config, seed)
    if isinstance(result, UserError):
        raise result
    return result


def test_artifact_of_a_backbone_is_found_and_taken_off():
    backbone = PatchMeans()
    clean = PatchMeans(strength=0)
    image = picture(64)
    result = denoise_image(image, backbone, DenoiseConfig(views=24, artifact_ridge=0))
    truth = denoise_image(image, clean, DenoiseConfig(views=24)).raw
    assert np.linalg.norm(result.artifact - backbone.artifact) < 0.1 * np.linalg.norm(backbone.artifact)
    # the rest is bending energy at the corners, which few crops show
    assert np.linalg.norm(result.clean - truth) < 0.4 * np.linalg.norm(result.raw - truth)
    assert result.raw.shape == result.clean.shape == result.artifact.shape == (8, 8, 6) and result.residual.shape == (
        8,
        8,
    )
    assert np.allclose(np.linalg.norm(result.raw - result.clean - result.artifact, axis=-1), result.residual, atol=1e-4)
    assert result.diagnostics["held_out_r2"] > 0.95


def test_raw_tokens_are_those_of_the_image_itself():
    backbone, image = PatchMeans(), picture(32)
    assert (denoise_image(image, backbone, DenoiseConfig(views=6)).raw == backbone.extract(image[None]).tokens[0]).all()


def test_same_arguments_same_bytes_and_seed_and_crops_count():
    def run(seed=0, digest=DIGEST, **options):
        return denoise_image(
            picture(64), PatchMeans(), DenoiseConfig(**({"views": 8} | options)), seed, digest
        ).clean.tobytes()

    base = run()
    assert run() == base
    changes = [
        {"seed": 1}, {"digest": "f" * 64}, {"views": 9}, {"crop_area": (0.2, 0.5)}, {"crop_area": (0.1, 0.4)},
        {"crop_aspect": (0.9, 1.3333)}, {"crop_aspect": (0.75, 1.1)}, {"flip_probability": 0.1}, {"nodes_per_patch": 1},
        {"smoothness": (5.0,)}, {"artifact_ridge": 9.0}, {"robust_constant": 1.0}, {"passes": 1},
    ]  # fmt: skip
    for change in changes:
        assert run(**change) != base, change


def test_faulty_images_are_refused_by_name_and_value():
    config = DenoiseConfig(views=6)
    with pytest.raises(UserError, match="image 0123456789ab: every pixel is 7"):
        denoise_image(np.full((32, 32, 3), 7, np.uint8), PatchMeans(), config)
    with pytest.raises(UserError, match="5 x 5 pixels are fewer than the backbone's 8 x 8 patches"):
        denoise_image(picture(5), PatchMeans(), config)

    class Broken(PatchMeans):
        def extract(self, images):
            tokens = super().extract(images).tokens
            tokens[:, 0, 0, 0] = np.nan
            return Features(tokens, None)

    with pytest.raises(UserError, match=r"image 0123456789ab: 6 of 384 tokens are NaN or infinite"):
        denoise_image(picture(32), Broken(), config)
    with pytest.raises(ValueError, match="uint8"):
        denoise_image(picture(32).astype(np.float32), PatchMeans(), config)


def test_a_bad_image_does_not_stop_the_others_nor_change_them():
    config, backbone = DenoiseConfig(views=6), PatchMeans()
    images = [picture(32), np.full((32, 32, 3), 7, np.uint8), picture(5), picture(48)]
    results = denoise_images(images, ["a", "b", "c", "d"], backbone, config, 0)
    assert [isinstance(result, UserError) for result in results] == [False, True, True, False]
    assert "image b: every pixel is 7" in str(results[1]) and "image c: 5 x 5 pixels" in str(results[2])
    alone = denoise_image(images[3], backbone, config, digest="d")
    assert results[3].clean.tobytes() == alone.clean.tobytes()


def test_what_decides_one_image_leaves_out_the_number_of_images_and_the_other_solver():
    base = DenoiseConfig().parameters_of_one_image()
    assert DenoiseConfig(images=9, probe_images=5, neural_field={"steps": 50}).parameters_of_one_image() == base
    assert DenoiseConfig(shared_artifact=True).parameters_of_one_image() != base
    neural = DenoiseConfig(solver="neural_field").parameters_of_one_image()
    assert DenoiseConfig(solver="neural_field", passes=9, smoothness=(3.0,)).parameters_of_one_image() == neural != base
    assert DenoiseConfig(solver="neural_field", neural_field={"steps": 50}).parameters_of_one_image() != neural
    with pytest.raises(ValidationError, match="shared_artifact needs solver: least_squares"):
        DenoiseConfig(solver="neural_field", shared_artifact=True)


def test_a_grid_that_is_not_square_and_an_image_of_another_shape():
    backbone = PatchMeans(side=32, grid=(8, 4))
    result = denoise_image(picture(64)[:48], backbone, DenoiseConfig(views=12))
    assert result.clean.shape == (8, 4, 6) and np.isfinite(result.clean).all()


def test_chosen_images_are_stable_when_more_come():
    ids = [f"{i:064x}" for i in range(100)]
    chosen = chosen_images(ids, 20, 0)
    assert len(chosen) == 20 and chosen == sorted(chosen) and chosen != chosen_images(ids, 20, 1)
    assert {ids[i] for i in chosen} == {ids[::-1][i] for i in chosen_images(ids[::-1], 20, 0)}
    more = ids + [f"{i:064x}" for i in range(1000, 1010)]
    assert len({more[i] for i in chosen_images(more, 20, 0)} - {ids[i] for i in chosen}) <= 6
    assert chosen_images(ids[:5], 20, 0) == [0, 1, 2, 3, 4]


def test_configuration_refuses_what_cannot_be():
    for wrong in (
        {"crop_area": (0.5, 0.1)}, {"crop_aspect": (2, 1)}, {"held_out": 0}, {"views": 3}, {"smoothness": ()},
        {"smoothness": (-1.0,)}, {"crop_area": (0, 0.5)}, {"images": 1}, {"unknown": 1},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            DenoiseConfig(**wrong)
    for config in (DenoiseConfig, DenoiserConfig):
        assert all(field.description for field in config.model_fields.values())


def test_heads_are_a_divisor_of_the_channels():
    assert [heads_for(c, 0) for c in (176, 384, 192, 64, 7)] == [2, 6, 3, 1, 1]
    assert heads_for(176, 4) == 4
    with pytest.raises(UserError, match="heads = 3 does not divide the backbone's 176 channels"):
        heads_for(176, 3)


def test_importing_the_configuration_imports_neither_torch_nor_scipy():
    code = "import sys, stages.denoise.config; print([m for m in ('torch', 'scipy', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout and "scipy" not in done.stdout
