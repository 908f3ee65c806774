"""What may not be compared is not compared in the folds, and no sentence says more than was measured."""

import synthetic

from harness.core.record import MachineUse, Memory, Quality, Record, Timing
from harness.core.spec import ModelSpec, OperationSpec, QualitySpec
from harness.report.comparison import Comparison, compare
from harness.report.model.records_table import report_rows
from harness.report.model.style import assign_styles
from harness.report.questions import pareto, speed, whole_models

WHY = "the process had 0.33 of its 2 cores"


def timing(seconds: float, *, samples: int = 5, noise: float = 0.001, disturbed: bool = False) -> Timing:
    """Samples around ``seconds``, the nearest of them ``noise`` away."""
    walls = [seconds * (1 + noise * (i - samples // 2)) for i in range(samples)]
    return Timing(wall_seconds=walls, warmup_calls=1, disturbed=disturbed, disturbance=WHY if disturbed else None)


def model(attention: str, seconds: float, length: int = 128, family: str = "yoso", **how: object) -> Record:
    spec = ModelSpec(attention=attention, seq_len=length, family=family)
    return synthetic.record(spec, timing=timing(seconds, **how))


def operation(attention: str, seconds: float, length: int = 128, peak: int = 2**20, **how: object) -> Record:
    memory = Memory(peak_bytes=peak, input_bytes=2**10, source="made up")
    return synthetic.record(
        OperationSpec(attention=attention, seq_len=length), timing=timing(seconds, **how), memory=memory
    )


def of(*records: Record) -> Comparison:
    return compare([synthetic.run(records)])


def multiples(*records: Record) -> dict[str, str]:
    table = whole_models.model_table(report_rows(synthetic.run(records)))
    return {str(row[1]): str(row[3]) for row in table.rows}


def finding(compared: Comparison, section: str) -> str:
    return str(next(each for each in compared.sections if each.id == section).finding)


def test_models_have_a_multiple_of_berts_time_only_where_the_two_times_can_be_compared() -> None:
    others = (
        model("yoso", 0.5), model("sdpa", 1.001, noise=0.01), model("linear", 0.4, disturbed=True),
        model("softmax", 2.0, samples=1),
    )  # fmt: skip
    cells = multiples(model("sdpa", 1.0, family="bert", noise=0.01), *others)
    assert cells["bert · sdpa"] == "1"
    assert cells["yoso"].startswith("0.500 [")
    assert cells["sdpa"] == "no clear difference to bert · sdpa"
    assert cells["linear"] == "this time was disturbed by other processes: no comparison with bert · sdpa"
    assert cells["softmax"] == "timed only once: no verdict against bert · sdpa"
    cells = multiples(model("sdpa", 1.0, family="bert", disturbed=True), *others)
    assert cells["yoso"].startswith("the time of bert · sdpa was disturbed")
    both = model("sdpa", 9.0, family="bert", disturbed=True), model("sdpa", 1.0, family="bert")
    assert multiples(*both, *others)["yoso"].startswith("0.500 [")


def test_the_finding_about_models_of_equal_size_has_a_ratio_only_where_there_is_a_difference() -> None:
    bert = model("sdpa", 1.0, family="bert", noise=0.01)
    assert " yoso takes 0.500 [" in finding(of(bert, model("yoso", 0.5)), "rivals")
    assert ", yoso: no clear difference to bert · sdpa;" in finding(of(bert, model("yoso", 1.001)), "rivals")
    disturbed = finding(of(bert, model("yoso", 0.5, disturbed=True)), "rivals")
    assert "yoso: this time was disturbed by other processes: no comparison with bert · sdpa" in disturbed
    alone = "At no length were BERT and another model timed, so no model is compared with it."
    assert finding(of(bert), "rivals") == alone


def test_whole_models_say_what_was_disturbed_and_do_not_say_that_it_was_not_timed() -> None:
    rows = [model("sdpa", 2.0), model("yoso", 1.5)]
    (found,) = of(model("none", 1.0, disturbed=True), *rows).whole_models
    assert "Not split at 128: other processes disturbed the time without attention there." in str(found.finding)
    assert found.lengths[0].base is None
    (found,) = of(*rows).whole_models
    assert "Not split at 128: none without attention was timed there." in str(found.finding)
    (found,) = of(model("none", 1.0), model("sdpa", 2.0, disturbed=True)).whole_models
    assert "Not split at 128: other processes disturbed the times with attention there." in str(found.finding)
    assert "within noise" not in str(found.finding)
    (found,) = of(model("sdpa", 2.0, disturbed=True), model("yoso", 1.5)).whole_models
    assert "At 128 tokens with yoso: the time of sdpa was disturbed by other processes" in str(found.finding)
    (found,) = of(model("sdpa", 2.0, noise=0.02), model("yoso", 1.99, noise=0.02)).whole_models
    assert "At 128 tokens with yoso: no clear difference to sdpa." in str(found.finding)


def test_a_share_from_one_sample_says_so_and_others_have_their_interval() -> None:
    (found,) = of(model("none", 1.0), model("sdpa", 2.0), model("yoso", 1.5, samples=1)).whole_models
    assert "attention takes 33.3% (yoso, timed only once) to 50.0% [" in str(found.finding)
    rows = report_rows(synthetic.run([model("none", 1.0), model("yoso", 1.5, samples=1)]))
    (cells,) = whole_models.share_table(rows).rows
    assert str(cells[2]) == "33.3% (timed only once)"


def test_a_plot_without_a_share_says_why() -> None:
    def empty(*records: Record) -> str:
        rows = report_rows(synthetic.run(records))
        return whole_models.share_plot(rows, assign_styles([(row.series, row.base_series) for row in rows])).empty

    sdpa = model("sdpa", 2.0)
    assert "none was timed with the attention “none”" in empty(sdpa)
    assert empty(sdpa, model("none", 1.0, disturbed=True)).startswith("No length has an undisturbed time")
    assert empty(sdpa, model("none", 2.0)) == "What attention adds is within noise in every model."


def test_what_is_not_clearly_beaten_in_two_costs_is_named_and_disturbed_times_are_left_out() -> None:
    records = [
        operation("sdpa", 1.0, peak=100, noise=0.02),
        operation("near", 1.01, peak=101, noise=0.02),
        operation("beaten", 2.0, peak=101),
        operation("large", 0.5, peak=999),
        operation("busy", 0.1, peak=1, disturbed=True),
    ]
    compared = of(*records)
    words = finding(compared, "fronts")
    assert words.startswith("Not clearly beaten in time and memory at 128 tokens, forward: large (error")
    assert "sdpa (error" in words
    assert "near (error" in words
    assert not any(name in words for name in ("beaten (error", "busy"))
    (plot,) = next(each for each in compared.sections if each.id == "fronts").panel.views[0].plots
    assert [str(remark) for remark in plot.remarks] == ["Left out, because other processes disturbed the time: 1."]
    assert not any(trace["meta"] == {"series": "busy"} for trace in plot.figure["data"])
    candidates = pareto.time_and_memory(report_rows(synthetic.run(records[-1:])))
    assert "without a disturbance" in pareto.pareto_plot(candidates, {}).empty
    assert all(each.id != "fronts" for each in of(records[0], operation("yoso", 1.0, 256)).sections)


def test_trainings_beat_one_another_only_beyond_the_interval_over_seeds() -> None:
    good, close, worse = (
        synthetic.task(name, scores, train_seconds=seconds)
        for name, scores, seconds in (
            ("softmax", [0.9, 0.901, 0.899], [10.0, 10.1, 9.9]),
            ("sdpa", [0.9, 0.89, 0.9], [10.0, 10.2, 9.9]),
            ("yoso", [0.5, 0.501, 0.499], [20.0, 20.1, 19.9]),
        )
    )
    words = finding(of(good, close, worse), "fronts")
    assert "softmax (90.0% [" in words
    assert "sdpa (89.7% [" in words
    assert "yoso" not in words


def lines(attention: str, seconds: tuple[float, ...], **how: object) -> list[Record]:
    return [operation(attention, each, 512 * 2**n, **how) for n, each in enumerate(seconds)]


def test_exponents_have_their_interval_or_say_that_a_time_was_taken_only_once() -> None:
    noisy = lines("noisy", (1e-3, 2.4e-3, 5.6e-3), noise=0.2)
    records = [*lines("sdpa", (1e-3, 4e-3, 16e-3)), *noisy, *lines("yoso", (1e-3, 2e-3, 4e-3), samples=1)]
    words = finding(of(*records), "exponents")
    assert "time of 0 of 3 attentions grows nearly linearly (exponent clearly below 1.3)" in words
    assert "sdpa 2.00 [2.00, 2.00]" in words
    assert "yoso 1.00 (timed only once)." in words
    (table,) = speed.exponents(report_rows(synthetic.run(records)))
    assert [str(row[1]) for row in table.rows if row[0] == "yoso"] == ["1.00 (timed only once)"]


def test_a_crossing_lies_between_the_two_nearest_lengths_with_a_clear_order() -> None:
    def crossing(*seconds: float, noisy: int | None = None, more: Record | None = None) -> tuple[str, str, str]:
        """The verdict, the length and the finding; the interval of the time at index ``noisy`` is wide."""
        noises = [0.1 if n == noisy else 0.001 for n in range(len(seconds))]
        own = [operation("yoso", each, 512 * 2**n, noise=noises[n]) for n, each in enumerate(seconds)]
        records = [*lines("sdpa", (1e-3, 4e-3, 16e-3, 64e-3)), *own, *([more] if more else [])]
        (table,) = speed.crossovers(report_rows(synthetic.run(records)))
        return str(table.rows[0][2]), str(table.rows[0][3]), finding(of(*records), "crossovers")

    verdict, length, words = crossing(2e-3, 5e-3, 8e-3, 16e-3)
    assert verdict == "faster from"
    assert length.startswith("1,")
    assert "; yoso from 1," in words
    verdict, length, words = crossing(2e-3, 3.96e-3, 8e-3, 16e-3, noisy=1)
    assert (verdict, length) == ("faster from", "between 512 and 2,048")
    assert words == (
        "Forward: 1 of 1 is clearly faster than sdpa from some measured length on, none of them with a measured error "
        "within 10% of softmax; yoso from somewhere between 512 and 2,048 tokens, error not measured."
    )
    assert crossing(0.5e-3, 5e-3, 8e-3, 16e-3)[0] == "faster from (changes 2 times)"
    # The medians change their order three times, of which two are not clear.
    assert crossing(2e-3, 3.96e-3, 16.1e-3, 16e-3, noisy=1)[0] == "faster from"
    *_, words = crossing(0.5e-3, 2e-3, 8e-3, 16e-3)
    assert words.endswith("; yoso at every length with a clear order, error not measured.")
    quality = QualitySpec(attention="yoso", seq_len=4096)
    errors = Quality(reference="softmax, float64", errors={"output": [0.05]})
    *_, words = crossing(0.5e-3, 2e-3, 8e-3, 16e-3, more=synthetic.record(quality, quality=errors))
    assert "on, 1 of them with a measured error within 10% of softmax; yoso at every" in words
    *_, words = crossing(2e-3, 8e-3, 32e-3, 128e-3)
    assert words.endswith("0 of 1 are clearly faster than sdpa from some measured length on; yoso is not, error not "
                          "measured.")  # fmt: skip


def test_a_length_that_was_timed_only_once_has_no_part_in_a_crossing() -> None:
    sdpa, own = lines("sdpa", (1e-3, 4e-3, 16e-3)), lines("yoso", (2e-3, 3e-3, 4e-3))
    (table,) = speed.crossovers(report_rows(synthetic.run([*sdpa, *own])))
    assert str(table.rows[0][-2]) == "3 from 512 to 2,048"
    once = operation("yoso", 3e-3, 1024, samples=1)
    (table,) = speed.crossovers(report_rows(synthetic.run([*sdpa, own[0], once, own[2]])))
    assert str(table.rows[0][-2]) == "2 from 512 to 2,048"
    tables = speed.crossovers(report_rows(synthetic.run([*sdpa, *lines("yoso", (2e-3, 3e-3, 4e-3), samples=1)])))
    assert tables == []


def between(before: list[Record], after: list[Record]) -> tuple[str, list[str]]:
    """What two runs' comparison says, and the cases that it lists."""
    compared = compare([synthetic.run(before), synthetic.run(after, commit="b" * 40)])
    (summary, *_) = compared.summaries
    section = next((each for each in compared.sections if each.id == "differences"), None)
    listed = [] if section is None else [str(row[0]) for table in section.tables for row in table.rows]
    return str(summary.sentences[0]), listed


def test_two_runs_say_what_was_timed_in_both_and_what_of_it_cannot_be_compared() -> None:
    quiet, busy = operation("sdpa", 1.0), operation("sdpa", 2.0, disturbed=True)
    said, listed = between([quiet], [busy])
    assert said.endswith("of 1 case timed in both, 1 is not compared, because other processes disturbed a time.")
    assert listed == []
    said, _ = between([quiet], [operation("yoso", 1.0)])
    assert said.endswith("compared with the first run: no case was timed in both.")
    said, listed = between([quiet, operation("yoso", 1.0)], [busy, operation("yoso", 2.0)])
    assert "of 2 cases timed in both, 0 are clearly faster and 1 clearly slower; 1 is not compared" in said
    assert [case.split("/")[1].split("-")[0] for case in listed] == ["yoso"]


def test_two_runs_differ_only_beyond_their_intervals_and_the_difference_of_two_names_of_one_kernel() -> None:
    shared = {"noise": 0.001}
    names = [operation(name, seconds, **shared).model_copy(update={"kernel": "flash"})
             for name, seconds in (("sdpa", 1.0), ("sdpa_flash", 1.2))]  # fmt: skip
    said, listed = between([*names, operation("yoso", 1.0)], [*names, operation("yoso", 1.1)])
    assert "0 are clearly faster and 0 clearly slower" in said
    assert listed == []
    said, listed = between([names[0], operation("yoso", 1.0)], [names[0], operation("yoso", 1.1)])
    assert "0 are clearly faster and 1 clearly slower" in said
    assert len(listed) == 1
    said, _ = between([operation("yoso", 1.0, samples=1)], [operation("yoso", 3.0, samples=1)])
    assert said.endswith("of 1 case timed in both, 1 has no verdict, because a time was taken only once.")


def test_a_setting_names_what_disturbed_the_run_while_its_times_were_taken() -> None:
    def notices(*records: Record) -> list[list[str]]:
        run = synthetic.run(records, machine={"cpu": "Example CPU", "cores": 2, "logical_cores": 2})
        data = compare([run]).operation
        assert data is not None
        return [[str(notice) for notice in setting.notices] for setting in data.settings]

    quiet = operation("sdpa", 1e-3)
    assert quiet.timing is not None
    loaded = quiet.timing.model_copy(update={"load_before": 5.7, "foreign_gpu_processes": 3})
    busy = quiet.model_copy(update={"timing": loaded})
    assert notices(busy, operation("yoso", 1e-3), operation("sdpa", 1e-3, 256)) == [
        [
            "The run was disturbed while 1 of 2 times were taken (sdpa): the load average was up to 5.7 on 2 cores.",
            "The run was disturbed while 1 of 2 times were taken (sdpa): other processes were on the GPU in 1 of 3 "
            "timed cases.",
        ],
        [],
    ]
    # The load average has what ended a minute ago: where the CPU time of others is known, that is the judgement.
    use = MachineUse(
        elapsed_seconds=2.5, cores=2, own_cpu_seconds=4.6, foreign_cpu_seconds=0.03, stolen_cpu_seconds=0.0, load=5.7,
        thermal_throttles=0,
    )  # fmt: skip
    alone = loaded.model_copy(update={"foreign_gpu_processes": 0})
    assert notices(quiet.model_copy(update={"timing": alone, "machine_use": use})) == [[]]
