"""What is trained is what predicts: the torch module and the numpy network give the same coefficients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from llmco2.catalog.gpus import load_gpus
from llmco2.catalog.models import load_models
from llmco2.data.tensors import deployment_batch, tensor_basis
from llmco2.deployment.columns import deployment_columns
from llmco2.deployment.deployment import Deployment
from llmco2.deployment.resolving import resolve_deployment
from llmco2.errors import InputError
from llmco2.networks.coefficients import CoefficientNetwork, Vocabulary
from llmco2.operators.names import PHASES
from llmco2.physics.basis import phase_basis
from llmco2.physics.groups import deployment_groups
from llmco2.physics.readout import phase_readout
from llmco2.predictor.checkpoint import Checkpoint, load_checkpoint
from llmco2.predictor.network import coefficients
from llmco2.records.engines import engine_names
from llmco2.training.export import export_checkpoint, validation_intervals

torch.set_num_threads(1)
NOTHING_MEASURED = {
    **{name: [] for name in ("gpus", "families", "engines", "precisions", "mechanisms", "deployments")},
    "ranges": {
        name: [1.0, 2.0] for name in ("batch_size", "prompt_tokens", "output_tokens", "parameters", "n_gpus")
    },
}


def random_deployments(count: int, seed: int) -> list[Deployment]:
    """Return deployments of random models on random GPUs, every family at least once."""
    rng = np.random.default_rng(seed)
    models, gpus, engines = load_models(), list(load_gpus()), list(engine_names())
    first_of_family = {model.family: name for name, model in reversed(models.items())}
    names = [*first_of_family.values(), *rng.choice(list(models), count)]
    found: list[Deployment] = []
    for name in names:
        for _ in range(20):
            tp, pp = int(rng.choice([1, 1, 2, 4, 8])), int(rng.choice([1, 1, 2]))
            ep = tp if rng.random() < 0.3 else 1
            try:
                found.append(resolve_deployment(str(name), str(rng.choice(gpus)), tp, pp, ep,
                                                str(rng.choice(engines)), "unknown", "unknown"))  # fmt: skip
                break
            except InputError:
                continue
    return found


def half_vocabulary(deployments: list[Deployment]) -> Vocabulary:
    """Return every other name, so that known and unknown ones both occur."""
    return Vocabulary(
        engines=tuple(sorted({d.engine for d in deployments}))[::2],
        precisions=tuple(sorted({d.precision.name for d in deployments}))[::2],
        gpus=tuple(sorted({d.gpu_id for d in deployments}))[::2],
        families=tuple(sorted({d.architecture.family for d in deployments}))[::2],
        groups=tuple(sorted({g for d in deployments for g in deployment_groups(d)} - {""}))[::2],
    )


def random_network(
    vocabulary: Vocabulary, *, hidden_dim: int, n_rounds: int, seed: int = 0
) -> CoefficientNetwork:
    """Return a network with every weight random, so that no term is silent."""
    torch.manual_seed(seed)
    network = CoefficientNetwork(vocabulary, hidden_dim=hidden_dim, n_rounds=n_rounds, correction_limit=1.3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return network


def exported(network: CoefficientNetwork, folder: Path) -> Checkpoint:
    """Return the network as the predictor loads it from disk."""
    path = export_checkpoint(network, folder / "random.json", intervals=validation_intervals(torch.empty(0)),
                             domain=NOTHING_MEASURED, metadata={})  # fmt: skip
    return load_checkpoint(str(path))


@pytest.mark.parametrize(("hidden_dim", "n_rounds"), [(0, 0), (12, 0), (12, 1), (12, 2)])
def test_coefficients_agree_to_1e_5_for_every_family(tmp_path: Path, hidden_dim: int, n_rounds: int) -> None:
    deployments = random_deployments(60, seed=n_rounds)
    vocabulary = half_vocabulary(deployments)
    network = random_network(vocabulary, hidden_dim=hidden_dim, n_rounds=n_rounds)
    with torch.no_grad():
        ours = network(deployment_batch(tuple(deployments), vocabulary))
    theirs = coefficients(exported(network, tmp_path), deployments, deployment_columns(deployments))
    for p, phase in enumerate(PHASES):
        for name, values in ours.slot[p].items():
            np.testing.assert_allclose(
                theirs[phase].slot[name], values.numpy(), rtol=1e-5, err_msg=f"{phase} {name}"
            )
        for name, values in ours.phase[p].items():
            np.testing.assert_allclose(
                theirs[phase].phase[name], values.numpy(), rtol=1e-5, err_msg=f"{phase} {name}"
            )


@pytest.mark.parametrize("phase", PHASES)
def test_the_readout_is_one_formula_in_both_libraries(phase: str) -> None:
    deployments = random_deployments(20, seed=9)
    vocabulary = half_vocabulary(deployments)
    network = random_network(vocabulary, hidden_dim=8, n_rounds=1)
    columns, n = deployment_columns(deployments), len(deployments)
    rng = np.random.default_rng(0)
    work = columns.workload(rng.integers(1, 64, n) * 1.0, rng.integers(1, 4096, n) * 1.0,
                            rng.integers(2, 512, n) * 1.0, rng.integers(0, 2, n) * 1.0)  # fmt: skip
    p = PHASES.index(phase)  # type: ignore[arg-type]
    basis, _ = phase_basis(PHASES[p], columns, work)
    with torch.no_grad():
        learned = network(deployment_batch(tuple(deployments), vocabulary))
        ours = phase_readout(torch, tensor_basis(basis), learned.slot[p], learned.phase[p])
    slot = {name: values.double().numpy() for name, values in learned.slot[p].items()}
    whole = {name: values.double().numpy() for name, values in learned.phase[p].items()}
    theirs = phase_readout(np, basis, slot, whole)
    np.testing.assert_allclose(theirs.energy_j, ours.energy_j.numpy(), rtol=1e-5)
    np.testing.assert_allclose(theirs.time_s, ours.time_s.numpy(), rtol=1e-5)


@pytest.mark.parametrize("n_rounds", [0, 1, 2])
def test_a_new_graph_network_changes_nothing_of_the_formula(n_rounds: int) -> None:
    deployments = random_deployments(10, seed=3)
    vocabulary = half_vocabulary(deployments)
    batch = deployment_batch(tuple(deployments), vocabulary)
    formula = CoefficientNetwork(vocabulary, hidden_dim=0)
    torch.manual_seed(5)
    with_graph = CoefficientNetwork(vocabulary, hidden_dim=16, n_rounds=n_rounds)
    with torch.no_grad():
        ours, theirs = with_graph(batch), formula(batch)
    for p in range(len(PHASES)):
        assert all(torch.equal(ours.slot[p][name], theirs.slot[p][name]) for name in ours.slot[p])
        assert all(torch.equal(ours.phase[p][name], theirs.phase[p][name]) for name in ours.phase[p])


def test_an_unfitted_unknown_name_moves_nothing() -> None:
    """Index 0 starts at zero, so a name outside the vocabulary is what everything shares."""
    known = resolve_deployment("meta-llama/Llama-3.1-8B", "L4", 1, 1, 1, "vllm", "unknown", "unknown")
    vocabulary = Vocabulary(
        engines=("vllm",), precisions=("bf16",), gpus=("L4",), families=("llama",), groups=()
    )
    network = CoefficientNetwork(vocabulary, hidden_dim=0)
    with torch.no_grad():
        for name in ("engine_slot", "precision_slot", "gpu_level", "family_level"):
            getattr(network, name)[1:] = 1.0
        nobody = Vocabulary(engines=(), precisions=(), gpus=(), families=(), groups=())
        unknown = network(deployment_batch((known,), nobody))
        shared = CoefficientNetwork(nobody, hidden_dim=0)(deployment_batch((known,), nobody))
        named = network(deployment_batch((known,), vocabulary))
    for name, values in unknown.slot[0].items():
        assert torch.equal(values, shared.slot[0][name])
        assert not torch.equal(values, named.slot[0][name])
