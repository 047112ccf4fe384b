"""Run a Hugging Face transformers model in this process, phase by phase.

Invariant: prefill is one forward pass over the prompt with a cache; decode is exactly ``output_tokens - 1``
greedy steps from the end of that prompt, whatever tokens come out. The device is idle when a call returns.
"""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from llmco2.errors import explain
from llmco2.measurement.meters.meter import Clock
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.kept_model import KeptModel, free_memory
from llmco2.measurement.workloads.model_loading import require_transformers
from llmco2.measurement.workloads.reference_kernels import missing_kernels, reference_note
from llmco2.measurement.workloads.torch_errors import translated
from llmco2.measurement.workloads.workload import RequestTiming, WorkloadError, WorkloadFacts
from llmco2.records.run import REFERENCE_KERNELS

if TYPE_CHECKING:
    import torch

    from llmco2.measurement.workloads.cache_state import CacheState

_BATCH1_STEPS: Final = 12  # the median of so many steps, after two that warm up
CACHE_COPIED: Final = "cache_copied"  # restoring the cache between decodes copied states inside the window
RANDOM_WEIGHTS: Final = "random normal weights; energy does not depend on which"


class TransformersWorkload:
    """One configuration on one device (or sharded over all, under ``torchrun``)."""

    decodes_alone = True

    def __init__(
        self,
        configuration: RunConfiguration,
        *,
        clock: Clock,
        device: str | None = None,
        models: KeptModel | None = None,
    ) -> None:
        """``device`` is a torch device; without one, the first GPU, or the CPU where there is none.

        ``models`` keeps the model for a later workload, and whoever made it drops it; without one the model
        goes when this workload is closed.
        """
        self._configuration = configuration
        self._clock = clock
        self._device_name = device
        self._models, self._models_are_ours = models or KeptModel(), models is None
        self._model: Any = None
        self._cache: Any = None
        self._prompt: Any = None  # (batch_size, prompt_tokens)
        self._first_token: Any = None  # (batch_size, 1)
        self._state: CacheState | None = None
        self._facts = WorkloadFacts()

    @property
    def facts(self) -> WorkloadFacts:
        """Versions, attention backend and CUDA graphs; complete after :meth:`load`."""
        return self._facts

    def load(self) -> None:
        """Build the model on the device and make a random prompt."""
        require_transformers()
        import torch  # noqa: PLC0415
        import transformers  # noqa: PLC0415

        configuration = self._configuration
        with translated(configuration.label):
            self._device = self._choose_device()
            found, self._model = self._models.get(configuration, self._device)
            self._cache_key = _cache_keyword(self._model)
            generator = torch.Generator().manual_seed(configuration.seed)
            shape = (configuration.batch_size, configuration.prompt_tokens)
            prompt = torch.randint(0, found.config.vocab_size, shape, generator=generator)
            self._prompt = prompt.to(self._device)
            self._step = self._compiled() if configuration.compiled else self._model
            self._synchronise()
        missing = missing_kernels(self._model)
        self._facts = WorkloadFacts(
            engine_version=f"transformers {transformers.__version__}, torch {torch.__version__}",
            attention_backend=getattr(self._model.config, "_attn_implementation", configuration.attention),
            cuda_graphs=configuration.compiled and self._device.type == "cuda",
            flags=(*found.flags, *((REFERENCE_KERNELS,) if missing else ())),
            notes=(
                *found.notes,
                *((RANDOM_WEIGHTS,) if configuration.weights == "random" else ()),
                *((reference_note(missing),) if missing else ()),
            ),
        )

    def prefill(self, repeats: int) -> tuple[RequestTiming, ...]:
        """Run the prompt; no request is streamed, so there are no timings."""
        self._state = None  # it holds the keys and values of the last prompt
        with translated(self._configuration.label), self._inference():
            for _ in range(repeats):
                self._run_prompt(self._prompt)
            self._remember()
            self._synchronise()
        return ()

    def decode(self, repeats: int) -> None:
        """Decode from the end of the prompt, each time anew; call :meth:`prefill` before it."""
        if self._state is None:
            self.prefill(1)
        with translated(self._configuration.label), self._inference():
            for _ in range(repeats):
                self._state.restore()  # type: ignore[union-attr]
                self._run_steps(self._first_token, self._configuration.output_tokens - 1)
            self._synchronise()

    def whole(self, repeats: int) -> tuple[RequestTiming, ...]:
        """Run prompt and decode back to back."""
        self._state = None
        with translated(self._configuration.label), self._inference():
            for _ in range(repeats):
                self._run_prompt(self._prompt)
                self._run_steps(self._first_token, self._configuration.output_tokens - 1)
            self._synchronise()
        return ()

    def step_time_batch1_s(self) -> float | None:
        """Return the median time of a decode step of one sequence behind the same prompt."""
        self._state = self._cache = None
        with translated(self._configuration.label), self._inference():
            self._run_prompt(self._prompt[:1], extra_tokens=_BATCH1_STEPS + 2)
            token = self._first_token
            times_s = []
            for _ in range(_BATCH1_STEPS + 2):
                self._synchronise()
                began_s = self._clock.now_s()
                token = self._run_steps(token, 1)
                self._synchronise()
                times_s.append(self._clock.now_s() - began_s)
            self._cache = None
        return median(times_s[2:])

    def close(self) -> None:
        """Give memory back to the device: all but the model, where that is kept for others."""
        self._model = self._step = self._cache = self._state = None
        self._prompt = self._first_token = None
        if self._models_are_ours:
            self._models.drop()
        elif getattr(self, "_device", None) is not None:
            free_memory()

    def _choose_device(self) -> torch.device:
        import torch  # noqa: PLC0415

        if self._device_name is not None:
            return torch.device(self._device_name)
        return (
            torch.device("cuda", torch.cuda.current_device())
            if torch.cuda.is_available()
            else torch.device("cpu")
        )

    def _compiled(self) -> Any:
        import torch  # noqa: PLC0415

        mode = "reduce-overhead" if self._device.type == "cuda" else None
        return torch.compile(self._model, mode=mode)

    def _inference(self) -> Any:
        import torch  # noqa: PLC0415

        return torch.inference_mode()

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            import torch  # noqa: PLC0415

            torch.cuda.synchronize(self._device)

    def _run_prompt(self, prompt: torch.Tensor, extra_tokens: int = 0) -> None:
        """Fill the cache from ``prompt`` and keep the first output token."""
        from llmco2.measurement.workloads.cache_state import empty  # noqa: PLC0415

        if self._cache is not None and self._configuration.static_cache and not extra_tokens:
            empty(self._cache)
        else:
            self._cache = None  # the old one goes before the new one comes
            self._cache = self._new_cache(extra_tokens)
        output = self._model(prompt, use_cache=True, logits_to_keep=1, **{self._cache_key: self._cache})
        if getattr(output, self._cache_key, None) is not self._cache:
            raise WorkloadError(
                "unsupported",
                explain(f"{self._configuration.model} keeps no cache that this workload can rewind"),
            )
        self._first_token = output.logits[:, -1].argmax(-1, keepdim=True)

    def _new_cache(self, extra_tokens: int) -> Any:
        from transformers import DynamicCache, StaticCache  # noqa: PLC0415

        configuration = self._configuration
        if not configuration.static_cache:
            return DynamicCache(config=self._model.config)
        length = configuration.prompt_tokens + max(configuration.output_tokens, extra_tokens + 1)
        return StaticCache(config=self._model.config, max_cache_len=length)

    def _remember(self) -> None:
        from llmco2.measurement.workloads.cache_state import CacheState  # noqa: PLC0415

        self._state = CacheState(self._cache)
        if self._state.copies and CACHE_COPIED not in self._facts.flags:
            self._facts = replace(self._facts, flags=(*self._facts.flags, CACHE_COPIED))

    def _run_steps(self, token: torch.Tensor, steps: int) -> torch.Tensor:
        """Make ``steps`` further tokens, one pass each, and return the last."""
        for _ in range(steps):
            if self._facts.cuda_graphs:
                import torch  # noqa: PLC0415

                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            output = self._step(token, use_cache=True, **{self._cache_key: self._cache})
            token = output.logits[:, -1].argmax(-1, keepdim=True)
        return token


def _cache_keyword(model: Any) -> str:
    """Return how the model's class calls its cache: purely recurrent ones have another word for it."""
    return "cache_params" if "cache_params" in signature(model.forward).parameters else "past_key_values"
