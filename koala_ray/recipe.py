"""The recipe: all settings of a run, typed, frozen and validated; :mod:`koala_ray.recipe_file` reads them.

``koala-ray recipe show NAME`` prints a recipe with every default filled in.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

SourceName = Literal["sharegpt", "hc3", "oig", "alpaca", "hh", "webgpt", "summarize", "identity"]
SOURCE_NAMES: tuple[str, ...] = get_args(SourceName)
SAMPLE_ROOT = "sample"
"""The ``data.root`` that means the sample corpus that comes with the package."""

KOALA_KEYWORDS = ("openai", "chatgpt", "gpt-3", "gpt3", "chadgpt", "chat-gpt", "open-ai", "open ai")
"""Koala's own list for ShareGPT (young-geng/koala_data_pipeline): its models should not take themselves for another."""

Fraction = Annotated[float, Field(ge=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
NaturalInt = Annotated[int, Field(ge=0)]


class Settings(BaseModel):
    """The base of each part of a recipe: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class ModelSettings(Settings):
    """Which model is tuned."""

    base: str = "smollm2-135m"
    """A bundled model's name (smollm2-135m, tiny), a Hugging Face id, a folder, or an s3:// folder."""
    attention: Literal["isolated"] = "isolated"
    """How attention keeps packed dialogues apart. Implementations that can't are not offered."""


MixtureName = Literal["found", "koala-distill", "koala-all", "koala-all-positive", "open-source-only"]


class DataSettings(Settings):
    """Which raw files are read, how often, and how they are split."""

    root: str = SAMPLE_ROOT
    """A folder or URI with the raw files; ``sample`` is the corpus that comes with the package."""
    sources: dict[SourceName, Annotated[list[str], Field(min_length=1)]] = {}
    """For each source the globs of its raw files below the root. Left out, every source whose files are found
    below the root under their usual names (``sharegpt*.json``, ``hc3*.jsonl``, ``alpaca/**.json``) is read."""
    mixture: MixtureName = "found"
    """Which sources belong to the data: a named mixture, all of whose sources must be there, or those found."""
    repeats: dict[SourceName, Annotated[float, Field(gt=0)]] = {}
    """How often an epoch reads each dialogue of a source: 2 is twice, 0.5 a half of its pairs chosen by hash."""
    conditioning: Literal["parting", "every"] = "parting"
    """Which answers of a comparison carry the marker and are learnt: the one where the sides part, or, as Koala
    did, every one."""
    heldout: Fraction = 0.03
    """The part of the dialogues kept out of training, by a hash of the opening question: all dialogues about one
    question, both sides of a pair among them, go together."""
    seed: int = 0
    """Seeds the held-out split, the task phrases and what ``repeats`` chooses."""


class CurateSettings(Settings):
    """Which rows are left out."""

    repair: bool = True
    """Mend texts: the extension's HTML, "Copy code" residue, control characters."""
    keywords: tuple[str, ...] = KOALA_KEYWORDS
    """A dialogue in which any message contains one of these, whatever its case, is left out."""
    keywords_in: tuple[SourceName, ...] = ("sharegpt",)
    """The sources that ``keywords`` apply to; Koala filtered ShareGPT alone."""
    language: Literal["en", "any"] = "en"
    """``en`` leaves out dialogues whose user doesn't write English."""
    duplicates: Literal["across", "within", "keep"] = "across"
    """Leave out rows that ask word for word what an earlier row asks: of any source, of the same source, or none.
    Comparisons, of which several ask the same on purpose, are left out if their answers are the same too."""
    near_duplicates: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Leave out rows whose estimated similarity (Jaccard) to an earlier one is at least this; 0 keeps them."""
    decontaminate: Literal["rows", "prompts", "off"] = "rows"
    """What is dropped where a prompt comes too close to a row: the training row, or the prompt."""
    against: tuple[str, ...] = ()
    """The prompt sets (names, paths, URIs) that rows are held against. Empty: the stored ones that are found."""
    bleu: Annotated[float, Field(gt=0, lt=100)] = 20.0
    """Too close: the prompt's sentence BLEU against a user's turn of the row is above this."""


class TokenSettings(Settings):
    """How dialogues become packed rows of token ids."""

    context: Annotated[int, Field(ge=16)] = 2048
    """Tokens in a packed row at most; no dialogue is longer."""
    long_dialogues: Literal["split", "cut", "drop"] = "split"
    """A longer dialogue is split between exchanges, each piece with some of what went before; or cut after its last
    exchange that fits; or dropped. An exchange that is too long by itself is cut inside its answer, or dropped."""
    seed: int = 0
    """Seeds the order of the packed rows in every epoch."""


CARRIED_OUT = frozenset(
    {
        *("workers", "min_workers", "cpus_per_worker", "gpus_per_worker"),
        *("zero_stage", "micro_rows", "activation_checkpointing", "offload_optimizer", "offload_weights"),
        *("loss", "loss_chunk", "checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "keep_every"),
    }
)
"""The train settings that say how a run is carried out and not what comes of it: a run may go on under others."""


class TrainSettings(Settings):
    """How the model is trained."""

    workers: PositiveInt = 1
    """Ray Train workers, one process each. ``[1, 4]`` sets the fewest too: with less machines a run goes on with
    less workers, and with more again when they are back."""
    min_workers: PositiveInt | None = None
    """The fewest workers that a run goes on with; as many as ``workers`` if left out."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    """CPUs that Ray reserves for each worker; on a CPU also its number of threads."""
    gpus_per_worker: Literal[0, 1] = 0
    """1 on GPU nodes: one worker per GPU."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """DeepSpeed's ZeRO stage: what is sharded over the workers (1 optimizer, 2 gradients, 3 weights)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """The type of weights and activations. CPUs without AVX-512 are about 50 times slower in bfloat16."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass instead of keeping them."""
    offload_optimizer: bool = False
    """Keep AdamW's moments and the float32 weights in the CPUs' memory, and step there (ZeRO 1–3)."""
    offload_weights: bool = False
    """Keep the weights in the CPUs' memory between their uses (ZeRO-3)."""
    loss: Literal["auto", "chunked", "liger"] = "auto"
    """How the loss is computed: in chunks by our own code, or by Liger's kernel, which auto takes on GPUs if it is
    installed."""
    loss_chunk: PositiveInt = 256
    """Learnt tokens whose logits are in memory at a time."""
    epochs: PositiveInt = 2
    """How often each packed row is read; the pack plan orders all epochs."""
    max_steps: NaturalInt = 0
    """Stop after so many steps; 0 runs all epochs. The schedule ends at the last step either way."""
    batch_rows: PositiveInt = 8
    """Packed rows in a global batch, over all workers and accumulation steps."""
    micro_rows: PositiveInt = 1
    """Packed rows that one worker runs through the model at once."""
    lr: Annotated[float, Field(gt=0)] = 2e-5
    """The highest learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after its warm-up."""
    warmup_steps: NaturalInt = 0
    """Steps in which the learning rate rises linearly to its highest."""
    lr_floor: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Where the cosine or the line ends, as a part of the highest learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the two moments."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's weight decay, on matrices only."""
    dropout: Fraction = 0.0
    """The probability with which attention weights are dropped."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """The largest global gradient norm."""
    checkpoint_every: NaturalInt = 100
    """Steps between checkpoints; 0 keeps only the one at the end."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] | Literal["young"] = 0.0
    """Minutes between checkpoints, besides; "young" takes the interval that costs least, from what a checkpoint is
    measured to cost and ``cost.hazard``."""
    keep_checkpoints: PositiveInt = 2
    """How many checkpoints stay: the last ones."""
    keep_every: NaturalInt = 0
    """Keep the checkpoints of each so many steps besides; 0 keeps none."""
    evaluate_every: NaturalInt = 0
    """Steps between held-out evaluations; 0 evaluates before the first and after the last step."""
    heldout_rows: NaturalInt = 64
    """Held-out packed rows that an evaluation reads at most; 0 evaluates nothing."""
    samples: NaturalInt = 2
    """Held-out questions that each evaluation answers, to be read; 0 answers none."""
    sample_tokens: PositiveInt = 48
    """New tokens in such an answer at most."""
    seed: int = 0
    """Seeds what is random in training (dropout, a built base model)."""

    @model_validator(mode="before")
    @classmethod
    def _range_of_workers(cls, values: Any) -> Any:
        return _range(values, "workers", "min_workers")

    @model_validator(mode="after")
    def _fewest_is_not_more(self) -> TrainSettings:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers {self.min_workers} is more than workers {self.workers}")
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> TrainSettings:
        chunk = self.workers * self.micro_rows
        if self.batch_rows % chunk:
            nearest = max(chunk, round(self.batch_rows / chunk) * chunk)
            raise ValueError(
                f"batch_rows {self.batch_rows} doesn't divide by workers × micro_rows = {chunk}; "
                f"set train.batch_rows={nearest}"
            )
        return self

    def workers_for(self, room: int) -> int:
        """The most workers that a run goes on with where there is room for so many; 0 if there are too few.

        Only numbers that divide the global batch: its rows, and so the run, stay what they are.
        """
        allowed = range(self.min_workers or self.workers, self.workers + 1)
        return max((n for n in allowed if n <= room and self.batch_rows % (n * self.micro_rows) == 0), default=0)

    @property
    def accumulation(self) -> int:
        """Micro-batches that each worker accumulates in one step."""
        return self.batch_rows // (self.workers * self.micro_rows)


class LoraSettings(Settings):
    """Low-rank adapters (LoRA) in place of training all weights."""

    rank: NaturalInt = 0
    """The adapters' rank; 0 trains all weights."""
    alpha: PositiveInt = 16
    """The adapters' output is scaled by alpha / rank."""
    dropout: Fraction = 0.0
    """The probability with which an adapter's input is dropped."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """The names of the linear layers that get an adapter."""


class GuardSettings(Settings):
    """What happens when a step goes wrong: the run stops, the step is skipped, or it is noted and taken.

    Half a window of steps skipped one after another stop the run, whatever is set here: nothing is learnt any more.
    """

    nonfinite: Literal["stop", "skip"] = "stop"
    """The loss or the gradient is not a finite number."""
    spike: Literal["stop", "skip", "note"] = "note"
    """The loss is more than ``spike_factor`` times the median of the last ``window`` steps."""
    spike_factor: Annotated[float, Field(gt=1)] = 3.0
    """How many times the median makes a spike."""
    grad_norm: Literal["stop", "skip", "note"] = "note"
    """The gradient's norm is more than ``grad_norm_factor`` times the median of the last ``window`` steps."""
    grad_norm_factor: Annotated[float, Field(gt=1)] = 20.0
    """How many times the median makes a runaway."""
    window: Annotated[int, Field(ge=4)] = 32
    """Steps that the medians are taken over; nothing is judged before half of them are taken."""
    hang_seconds: PositiveInt = 300
    """A worker that waits longer for the others says so and gives up, and all are started again: the process group's
    timeout."""


class RetrySettings(Settings):
    """After which failures a run's workers are started again; announced preemptions are without a limit."""

    errors: NaturalInt = 2
    """Errors in the code or its libraries; one that comes again at the same step ends the run."""
    losses: NaturalInt = 100
    """Workers or machines that vanish, or hang; a storage that fails."""
    settle_seconds: Annotated[float, Field(ge=0)] = 10.0
    """How long new machines must have been there before a run grows onto them: some come and go."""
    wait_seconds: Annotated[float, Field(ge=0)] = 5.0
    """Before the second start without a checkpoint in between; doubles each time, up to five minutes."""


class ReportSettings(Settings):
    """Where a run's figures go besides its own folder and the terminal."""

    tensorboard: bool = True
    """Write TensorBoard files into the run's folder."""
    wandb: str = ""
    """The Weights & Biases project to write to; empty writes to none."""
    mlflow: str = ""
    """The MLflow tracking URI to write to; empty writes to none."""
    prometheus: bool = True
    """Offer the figures as Ray metrics, which Ray exports to Prometheus."""


class CostSettings(Settings):
    """What the machines cost, and how much may be spent."""

    price: Annotated[float, Field(ge=0)] | None = None
    """Dollars for an hour of one GPU; of one node where workers have no GPUs. Unknown when left out."""
    hazard: Annotated[float, Field(ge=0)] | None = None
    """Reclaims in an hour of one node, for ``train.checkpoint_minutes=young``; the plan's assumption if left out."""
    budget: Annotated[float, Field(ge=0)] = 0.0
    """Dollars after which the run writes a checkpoint and stops; 0 is without a limit."""


class GenerateSettings(Settings):
    """How answers are generated for stored prompts."""

    max_tokens: PositiveInt = 256
    """New tokens in an answer at most."""
    temperature: Annotated[float, Field(ge=0, le=100)] = 0.0
    """0 takes the likeliest token each time."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Sample among the likeliest tokens that make up this probability."""
    top_k: NaturalInt = 0
    """Sample among so many of the likeliest tokens; 0 among all."""
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Makes tokens that were there before less likely; 1 doesn't."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """An answer ends before the first of these strings."""
    n: PositiveInt = 1
    """Answers to each prompt, each with a seed of its own."""
    seed: int = 0
    """Seeds sampling: with the prompt and an answer's number it gives that answer's own seed."""
    limit: NaturalInt = 0
    """Answer only the first so many prompts; 0 answers all."""
    marker: Literal["positive", "negative"] = "positive"
    """The marker that opens the answer."""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """What generates; auto takes vLLM on GPUs where it is installed, else transformers' continuous batching."""
    concurrent: PositiveInt = 32
    """Answers that one replica generates at the same time."""
    replicas: PositiveInt = 1
    """Copies of the engine. ``[1, 4]`` sets the fewest too: Ray Serve adds and removes them by what is asked."""
    min_replicas: PositiveInt | None = None
    """The fewest copies; as many as ``replicas`` if left out."""
    cpus: Annotated[float, Field(gt=0)] = 1
    """CPUs that Ray reserves for a replica; on a CPU also its number of threads."""
    gpus: NaturalInt = 0
    """GPUs that a replica is spread over (tensor parallel, vLLM's); 0 puts it on a CPU."""
    retries: NaturalInt = 5
    """How often a prompt is asked again that a replica took along when it died."""

    @model_validator(mode="before")
    @classmethod
    def _range_of_replicas(cls, values: Any) -> Any:
        return _range(values, "replicas", "min_replicas")

    @model_validator(mode="after")
    def _fits(self) -> GenerateSettings:
        if self.min_replicas is not None and self.min_replicas > self.replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is more than replicas {self.replicas}")
        if self.gpus > 1 and self.engine == "transformers":
            raise ValueError("engine: transformers takes one GPU; vllm takes more")
        return self


def _range(values: Any, most: str, fewest: str) -> Any:
    """Settings in which ``[1, 4]`` stands for the fewest and the most, with each in its own key."""
    if isinstance(values, dict) and isinstance(values.get(most), list | tuple):
        if len(values[most]) != 2 or fewest in values:
            raise ValueError(f"{most} is a number, or the fewest and the most: [1, 4]")
        least, highest = values[most]
        values = {**values, most: highest, fewest: least}
    return values


class Recipe(Settings):
    """All settings of a run."""

    name: str
    """The recipe's name; runs are shown under it."""
    about: str = ""
    """What it is for, in a sentence."""
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    curate: CurateSettings = CurateSettings()
    tokens: TokenSettings = TokenSettings()
    train: TrainSettings = TrainSettings()
    lora: LoraSettings = LoraSettings()
    guards: GuardSettings = GuardSettings()
    retries: RetrySettings = RetrySettings()
    report: ReportSettings = ReportSettings()
    cost: CostSettings = CostSettings()
    generate: GenerateSettings = GenerateSettings()

    def to_yaml(self) -> str:
        """The whole recipe, defaults filled in, as YAML that :func:`koala_ray.recipe_file.load_recipe` reads back."""
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100))

    def hash(self) -> str:
        """sha256 over all settings but the name and the description, in hex."""
        body = self.model_dump(mode="json", exclude={"name", "about"})
        return hashlib.sha256(yaml.safe_dump(body, sort_keys=True).encode()).hexdigest()
