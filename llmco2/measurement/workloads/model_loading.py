"""Load a transformers model to measure: from its config with random weights, or from a local checkpoint.

Invariant: nothing is downloaded and no remote code runs; a config that is not on this machine is built from
the catalog's shape, and what was loaded says so. Energy does not depend on which weights a dense
model has, but it does on whether they are zeros (multiplying zeros draws less), so random weights are normal
noise.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llmco2.catalog.architecture import Architecture
from llmco2.catalog.models import resolve_model
from llmco2.errors import InputError, explain
from llmco2.measurement.scratch import scratch_folder
from llmco2.measurement.workloads.catalog_config import check_size, config_from_catalog
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.workload import WorkloadError

if TYPE_CHECKING:
    import torch

INITIAL_STD: Final = 0.02  # the usual initializer_range of decoder-only models
CONFIG_FROM_CATALOG: Final = "config_from_catalog"  # no config.json here: the catalog's shape was built
_CATALOG_NOTE: Final = "config of the catalog's shape; what the catalog does not keep is its class's default"
_TORCH_NAMES: Final = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundConfig:
    """The transformers config of a decoder, and where it came from."""

    config: Any
    catalog: Architecture | None = None  # the record that it was built from; none: it was read from a file

    @property
    def flags(self) -> tuple[str, ...]:
        """What a row must say of it."""
        return (CONFIG_FROM_CATALOG,) if self.catalog else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """The same in a sentence."""
        return (_CATALOG_NOTE,) if self.catalog else ()


def require_transformers() -> None:
    """Raise in one line where the extra is not installed."""
    try:
        import torch  # noqa: F401, PLC0415
        import transformers  # noqa: F401, PLC0415
    except ImportError as error:
        raise WorkloadError(
            "missing_package",
            explain("the transformers workload needs an extra", remedy="pip install 'llmco2[measure]'"),
        ) from error


def torch_dtype(precision: str) -> torch.dtype:
    """Return the torch dtype of the activations; quantised weights compute in bf16."""
    import torch  # noqa: PLC0415

    dtype: torch.dtype = getattr(torch, _TORCH_NAMES.get(precision, "bfloat16"))
    return dtype


def load_config(configuration: RunConfiguration) -> FoundConfig:
    """Return the config of the decoder: of a local path or the local model cache, else the catalog's shape.

    Only random weights can do with the catalog's shape, and only a model without a ``model_path``.

    Raises:
        WorkloadError: there is no config here, it is not a decoder's, or the catalog cannot stand in for it.
    """
    from transformers import AutoConfig  # noqa: PLC0415

    name = configuration.model_path or configuration.model
    path = Path(name).expanduser()
    source = str(path.parent if path.name == "config.json" else path) if path.exists() else name
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        arch = None if path.exists() or _is_cached(name) else _catalog_record(configuration)
        if arch is not None:
            return FoundConfig(config=config_from_catalog(arch), catalog=arch)
        raise WorkloadError(
            "no_config",
            explain(
                f"no usable config of {name!r} on this machine",
                got=str(error).splitlines()[0][:120],
                remedy="set model_path to a folder or config.json, or: hf download NAME config.json",
            ),
        ) from error
    return FoundConfig(config=config.get_text_config(decoder=True))


def _is_cached(name: str) -> bool:
    """Return whether the local model cache has a config of that name, usable or not."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except ValueError:  # no name that the cache could have
        return False


def _catalog_record(configuration: RunConfiguration) -> Architecture | None:
    if configuration.model_path is not None or configuration.weights != "random":
        return None
    try:
        return resolve_model(configuration.model)
    except InputError:
        return None


def load_model(configuration: RunConfiguration, found: FoundConfig, device: torch.device) -> Any:
    """Return the model in evaluation mode on ``device``, with the attention, precision and plan asked for."""
    if configuration.precision in {"int8", "nf4"} or configuration.tensor_parallel > 1:
        return _from_checkpoint(configuration, found, device)
    if configuration.weights == "checkpoint":
        return _from_checkpoint(configuration, found, device)
    return random_model(found, configuration, device)


def random_model(found: FoundConfig, configuration: RunConfiguration, device: torch.device) -> Any:
    """Return a model of that shape with normal random weights, made on the device itself."""
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch_dtype(configuration.precision))
    try:
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(
                found.config, attn_implementation=_attention(configuration, found), trust_remote_code=False
            )
    except (ValueError, ImportError) as error:
        raise _refused(configuration, error) from error
    finally:
        torch.set_default_dtype(before)
    if found.catalog is not None:
        check_size(model, found.catalog)
    model = model.to(device=device, dtype=torch_dtype(configuration.precision)).eval()
    generator = torch.Generator(device=device).manual_seed(configuration.seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, INITIAL_STD, generator=generator)
    return model


def _attention(configuration: RunConfiguration, found: FoundConfig) -> str:
    """Return the attention to ask for: a class without any takes "eager" and refuses the rest."""
    return configuration.attention if has_attention(found.config) else "eager"


def has_attention(config: Any) -> bool:
    """Return whether a model of that config attends at all; a purely recurrent one has no heads."""
    return hasattr(config, "num_attention_heads")


def _from_checkpoint(configuration: RunConfiguration, found: FoundConfig, device: torch.device) -> Any:
    if configuration.weights == "checkpoint":
        return _pretrained(configuration, found, configuration.model_path or configuration.model, device)
    import torch  # noqa: PLC0415

    # Sharding and quantising happen while a checkpoint is read, so random weights go through one.
    with scratch_folder("llmco2-random-") as made:
        own_folder = str(made)
        folder, write = (
            _shared_folder(own_folder) if configuration.tensor_parallel > 1 else (own_folder, True)
        )
        if write:
            random_model(found, configuration, torch.device("cpu")).save_pretrained(folder)
        _wait_for_all(configuration)
        model = _pretrained(configuration, found, folder, device)
        _wait_for_all(configuration)  # before the folder goes
        return model


def _shared_folder(own_folder: str) -> tuple[str, bool]:
    """Return the first process's folder, and whether this is that process."""
    import torch.distributed as dist  # noqa: PLC0415

    names: list[Any] = [own_folder]
    dist.broadcast_object_list(names, src=0)
    return str(names[0]), dist.get_rank() == 0


def _wait_for_all(configuration: RunConfiguration) -> None:
    if configuration.tensor_parallel > 1:
        import torch.distributed as dist  # noqa: PLC0415

        dist.barrier()


def _parallel_options() -> dict[str, Any]:
    """Return how this release of transformers wants to be told to shard by its own plan."""
    try:
        from transformers.distributed import DistributedConfig  # noqa: PLC0415

        return {"distributed_config": DistributedConfig(tp_plan="auto")}
    except (ImportError, TypeError):  # before it could carry a tensor-parallel plan
        return {"tp_plan": "auto"}


def _pretrained(
    configuration: RunConfiguration, found: FoundConfig, source: str, device: torch.device
) -> Any:
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    options: dict[str, Any] = {
        "dtype": torch_dtype(configuration.precision),
        "attn_implementation": _attention(configuration, found),
        "local_files_only": True,
        "trust_remote_code": False,
    }
    if configuration.precision in {"int8", "nf4"}:
        options |= {"quantization_config": _quantisation(configuration.precision), "device_map": {"": device}}
    if configuration.tensor_parallel > 1:
        options |= _parallel_options()
    try:
        model = AutoModelForCausalLM.from_pretrained(source, **options)
    except (OSError, ValueError, ImportError) as error:
        raise _refused(configuration, error) from error
    if "device_map" not in options and configuration.tensor_parallel == 1:
        model = model.to(device)
    return model.eval()


def _quantisation(precision: str) -> Any:
    import torch  # noqa: PLC0415
    from transformers import BitsAndBytesConfig  # noqa: PLC0415

    try:
        importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise WorkloadError(
            "missing_package",
            explain(f"{precision} weights need bitsandbytes", remedy="pip install bitsandbytes"),
        ) from error
    if precision == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )


def _refused(configuration: RunConfiguration, error: Exception) -> WorkloadError:
    return WorkloadError(
        "unsupported",
        explain(
            f"transformers cannot load {configuration.model} as asked",
            got=str(error).splitlines()[0][:160],
            expected=f"attention {configuration.attention}, precision {configuration.precision}",
        ),
    )
