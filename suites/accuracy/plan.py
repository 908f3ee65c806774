"""What is trained, as data: the attentions, the tasks and their lengths, the learning rates, the seeds, and the order.

A cell is one attention on one task at one length. Its trainings are, in this order: every learning rate with every
development seed, scored on development examples; and then every seed with the learning rate that scored best, scored
on held-out examples. A seed decides the examples, the initial weights and the order of the data, so that the trainings
of two attentions with one seed are a pair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.core.spec import Scalar, ScoredOn, Swap, TaskSpec

REFERENCE = "sdpa"
"""The attention that the others are compared with: softmax."""
MARGIN_POINTS = 2.0
"""An attention is not worse if the interval of its difference to softmax is above minus this many percentage points."""
SAMPLING_MARGIN_POINTS = 3.0
"""The same for a trained model's loss when it runs with samples instead of the exact expectation."""
FIRST_DEVELOPMENT_SEED = 1000
"""The seeds of the trainings that choose a learning rate begin here, and those of the comparison at 0."""


@dataclass(frozen=True)
class Attention:
    """An attention under comparison: the plugin's name and its knobs.

    ``sampled`` is an attention with which its trained models are scored as well. ``is_linear`` says whether its time
    and memory grow linearly with the length.
    """

    name: str
    knobs: Mapping[str, Scalar] = field(default_factory=dict)
    sampled: Swap | None = None
    is_linear: bool = True


SAMPLES = {"num_hash": 32}
ATTENTIONS: dict[str, Attention] = {
    REFERENCE: Attention("sdpa", is_linear=False),
    "yoso_e": Attention("yoso_e", sampled=Swap(attention="yoso", knobs=SAMPLES), is_linear=False),
    "yoso": Attention("yoso", SAMPLES),
    "yoso_norm_floor": Attention("yoso", SAMPLES | {"norm_floor": 0.1}),
    "yoso_row_sums": Attention("yoso", SAMPLES | {"normalization": "sum", "norm_floor": 0.1}),
    "yoso_rescored": Attention("yoso", {"num_hash": 16, "estimator": "rescored"}),
    "yoso_e_norm_floor": Attention(
        "yoso_e",
        {"norm_floor": 0.1},
        sampled=Swap(attention="yoso", knobs=SAMPLES | {"norm_floor": 0.1}),
        is_linear=False,
    ),
    "linear": Attention("linear"),
    "nystromformer": Attention("nystromformer"),
    "performer_softmax": Attention("performer_softmax", {"num_features": 128}),
}
FIRST_ROUND = (REFERENCE, "yoso_norm_floor", "yoso_e_norm_floor", "yoso", "yoso_e", "yoso_row_sums", "yoso_rescored")
SECOND_ROUND = ("linear", "nystromformer", "performer_softmax")


@dataclass(frozen=True)
class Setting:
    """A task at a length, and how long a model is trained on it. ``only_linear`` leaves the other attentions out."""

    task: str
    seq_len: int
    steps: int
    batch: int = 32
    train_examples: int = 10_000
    eval_examples: int = 1000
    only_linear: bool = False

    @property
    def label(self) -> str:
        """The name on the command line and in the results."""
        return f"{self.task}-n{self.seq_len}"


@dataclass(frozen=True)
class Plan:
    """Everything that a run trains.

    ``rounds`` are names of attentions; all settings are trained with those of the first round before any with those of
    the second. Where two learning rates score the same, the one that comes first is chosen. ``pretrain_steps`` steps of
    denoising (``harness.training.pretraining``) come before every training.
    """

    name: str
    settings: tuple[Setting, ...]
    rounds: tuple[tuple[str, ...], ...] = (FIRST_ROUND, SECOND_ROUND)
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 3e-4)
    development_seeds: int = 1
    seeds: int = 5
    pretrain_steps: int = 0

    def cells(self) -> list["Cell"]:
        """All cells, in the order of their training."""
        return [
            Cell(self, setting, attention)
            for names in self.rounds
            for setting in self.settings
            for attention in names
            if ATTENTIONS[attention].is_linear or not setting.only_linear
        ]

    def after_denoising(self, steps: int) -> "Plan":
        """The same plan with so many steps of denoising before each training, under a name of its own."""
        return replace(self, name=f"{self.name}-denoised-{steps}", pretrain_steps=steps) if steps else self

    def only(self, settings: Sequence[str] = (), attentions: Sequence[str] = ()) -> "Plan":
        """The part of the plan with these settings and attentions; no name selects all of them.

        Raises:
            ValueError: a name is not in the plan.
        """
        known = {setting.label: setting for setting in self.settings}
        in_rounds = [name for names in self.rounds for name in names]
        for what, names, possible in (("--settings", settings, list(known)), ("--attentions", attentions, in_rounds)):
            unknown = [name for name in names if name not in possible]
            if unknown:
                raise ValueError(
                    f"{what}: expected names of the profile {self.name!r}, got {', '.join(unknown)}; choose from "
                    f"{', '.join(possible)}"
                )
        return replace(
            self,
            settings=tuple(setting for setting in self.settings if not settings or setting.label in settings),
            rounds=tuple(
                tuple(name for name in names if not attentions or name in attentions) for names in self.rounds
            ),
        )


@dataclass(frozen=True)
class Cell:
    """One attention on one task at one length."""

    plan: Plan
    setting: Setting
    attention: str

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.setting.label}, {self.attention}"

    def development(self, learning_rate: float) -> list[TaskSpec]:
        """The trainings that say how good a learning rate is, one per development seed."""
        seeds = range(FIRST_DEVELOPMENT_SEED, FIRST_DEVELOPMENT_SEED + self.plan.development_seeds)
        return [self._spec(learning_rate, seed, "development") for seed in seeds]

    def comparison(self, learning_rate: float) -> list[TaskSpec]:
        """The trainings whose scores are compared, one per seed."""
        return [self._spec(learning_rate, seed, "held_out") for seed in range(self.plan.seeds)]

    def _spec(self, learning_rate: float, seed: int, scored_on: ScoredOn) -> TaskSpec:
        attention, setting = ATTENTIONS[self.attention], self.setting
        swaps = (attention.sampled,) if attention.sampled is not None and scored_on == "held_out" else ()
        return TaskSpec(
            attention=attention.name,
            knobs=dict(attention.knobs),
            task=setting.task,
            seq_len=setting.seq_len,
            steps=setting.steps,
            batch=setting.batch,
            train_examples=setting.train_examples,
            eval_examples=setting.eval_examples,
            learning_rate=learning_rate,
            seed=seed,
            seeds=1,
            pretrain_steps=self.plan.pretrain_steps,
            scored_on=scored_on,
            evaluate_with=swaps,
        )


PLANS = {
    plan.name: plan
    for plan in (
        Plan(
            "quick",
            settings=(Setting("needle", 32, 60, train_examples=1000, eval_examples=200),),
            rounds=((REFERENCE, "yoso_e", "yoso"),),
            learning_rates=(3e-3, 1e-3),
            seeds=2,
        ),
        # How far each attention comes in steps that do not suffice for softmax with every seed.
        Plan(
            "short",
            settings=(Setting("needle", 128, 800), Setting("distant_label", 128, 600, eval_examples=500)),
            rounds=((REFERENCE, "yoso_norm_floor"), ("yoso", "yoso_e")),
        ),
        Plan(
            "standard",
            settings=(
                Setting("needle", 128, 1600),
                Setting("distant_label", 128, 1500, eval_examples=500),
                Setting("multi_query_lookup", 128, 1500, eval_examples=500),
                Setting("digits", 256, 2000),
                Setting("multi_query_lookup", 256, 1000, eval_examples=500),
                # A longer sequence has more queries, so that fewer of them in a step teach as much.
                Setting("multi_query_lookup", 512, 1200, batch=16, eval_examples=250),
                Setting("needle", 512, 1000),
                Setting("multi_query_lookup", 1024, 1200, batch=16, eval_examples=250),
                Setting("multi_query_lookup", 2048, 1200, batch=8, eval_examples=250, only_linear=True),
            ),
        ),
    )
}
