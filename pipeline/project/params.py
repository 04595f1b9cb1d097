"""Reads params.yaml into frozen, typed parameters.

An unknown key, a wrong type or a value out of range is an error of one line that names the key and its value.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, create_model, field_validator

from pipeline.project import paths
from pipeline.project.retrain_config import RetrainConfig
from stages.audit.config import AuditConfig
from stages.backbone.config import BackboneConfig, DistillConfig
from stages.denoise.config import DenoiseConfig, DenoiserConfig
from stages.detectors.interface import DetectorConfig
from stages.detectors.registry import CONFIGS
from stages.download.config import DataConfig
from stages.fusion.config import FusedConfig
from stages.fusion.members import deciding, members, scored
from stages.score.config import ScoreConfig
from stages.types import Config, UserError


class ComputeConfig(Config):
    """Where and on which device the work runs. No stage depends on this section.

    Results are byte-identical for every executor on one type of device; CPU and GPU results differ slightly.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: the GPU where there is one."""
    executor: str = "auto"
    """Where work on images runs. `serial`: in the stage. `processes`, `processes:N`: one process per core, or N.
    `dask://host:port`: workers of Dask. `auto`: `processes`; one core or a GPU: `serial`.

    `dask://host:port` is the address of the Dask scheduler. Its workers need the same packages and code, and
    `--nthreads 1`."""
    cache: str = str(paths.CACHE / "items")
    """Where results per image are stored: a folder or fsspec URL (`s3://bucket/prefix`)."""
    cache_max_gb: Annotated[float, Field(gt=0)] = 20.0
    """Above this size in GiB the least recently used results are deleted (folders only)."""

    @field_validator("executor")
    @classmethod
    def _executor_exists(cls, value: str) -> str:
        if re.fullmatch(r"auto|serial|processes(:[1-9]\d{0,3})?", value):
            return value
        dask = re.fullmatch(r"dask://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", value)
        if dask and 0 < int(dask[1]) < 2**16:
            return value
        raise ValueError("it must be auto, serial, processes, processes:N (N from 1 to 9999) or dask://host:port")


class Params(Config):
    """All of params.yaml. The registry adds one section per detector to these."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of everything random."""
    data: DataConfig = DataConfig()
    audit: AuditConfig = AuditConfig()
    backbone: BackboneConfig = BackboneConfig()
    denoise: DenoiseConfig = DenoiseConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    distill: DistillConfig = DistillConfig()
    detectors: Annotated[tuple[str, ...], Field(min_length=1)] = tuple(CONFIGS)
    """Detectors that are trained and scored."""
    fused: FusedConfig = FusedConfig()
    score: ScoreConfig = ScoreConfig()
    retrain: RetrainConfig = RetrainConfig()
    compute: ComputeConfig = ComputeConfig()

    @field_validator("detectors")
    @classmethod
    def _detectors_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in CONFIGS:
                raise ValueError(f"unknown detector {name!r}; there are {', '.join(CONFIGS)}")
        if len(set(value)) != len(value):
            raise ValueError("a detector is named twice")
        return value

    @field_validator("fused")
    @classmethod
    def _members_exist(cls, value: FusedConfig) -> FusedConfig:
        for name in value.detectors:
            if name not in CONFIGS:
                raise ValueError(f"unknown detector {name!r}; there are {', '.join(CONFIGS)}")
        return value

    @property
    def fused_detectors(self) -> tuple[str, ...]:
        """The members of the fusion (`stages.fusion.members`)."""
        return members(self.fused.detectors, self.detectors)

    @property
    def scored_detectors(self) -> tuple[str, ...]:
        """The detectors that get metrics: those of `detectors`, and their fusion if there is one."""
        return scored(self.fused.detectors, self.detectors)

    @property
    def deciding_detector(self) -> str:
        """The detector that decides by default: the fusion, or the first of `detectors` without a fusion."""
        return deciding(self.fused.detectors, self.detectors)

    def detector(self, name: str) -> DetectorConfig:
        """The parameters of one detector."""
        section: DetectorConfig = getattr(self, name)
        return section


_SECTIONS: dict[str, Any] = {name: (config, config.model_validate({})) for name, config in CONFIGS.items()}
_WholeParams = create_model("Params", __base__=Params, **_SECTIONS)


def defaults() -> dict[str, Any]:
    """Section -> key -> default, as JSON values."""
    return _WholeParams().model_dump(mode="json")


def load_params(path: Path = paths.PARAMS) -> Params:
    """Read and check the parameters.

    Raises:
        UserError: the file is missing or not YAML, or keys are wrong (the message names each with its value).
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as fault:
        raise UserError(f"{path} is missing; restore it with `git checkout {path}`") from fault
    except UnicodeDecodeError as fault:
        raise UserError(f"{path} is not a text file in UTF-8") from fault
    except yaml.YAMLError as fault:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(fault).split())}") from fault
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; it must hold `key: value` lines")
    try:
        return _WholeParams.model_validate(content or {})
    except ValidationError as fault:
        raise UserError(f"{path}: " + "; ".join(_describe_error(error) for error in fault.errors())) from fault


def _describe_error(error: Any) -> str:
    """One error of pydantic as `key = value: what is wrong`."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        siblings = _sibling_keys(error["loc"])
        similar = difflib.get_close_matches(str(error["loc"][-1]), siblings, n=1)
        hint = f"did you mean {similar[0]!r}?" if similar else f"known keys are {', '.join(siblings)}"
        return f"unknown key {key!r}; {hint}"
    message = error["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list, as in [a, b]")
    return f"{key} = {error['input']!r}: {message[:1].lower()}{message[1:]}"


def _sibling_keys(location: tuple[Any, ...]) -> list[str]:
    """Keys of the section in which the key at `location` is."""
    model: Any = _WholeParams
    for part in location[:-1]:
        field = model.model_fields.get(part)
        if field is None or not hasattr(field.annotation, "model_fields"):
            return []
        model = field.annotation
    return list(model.model_fields)
