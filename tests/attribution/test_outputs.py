"""Outputs that are not what their job made: what is missing is told, what is another's is refused (issue 15)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from esv_ray import storage
from esv_ray.attribution.partitions import plan_partitions
from esv_ray.attribution.planning import plan_job
from esv_ray.attribution.work import run_job
from esv_ray.cli import cli
from esv_ray.errors import DataError, EsvError, IncompleteError, JobError
from esv_ray.input.files import InputFile
from esv_ray.input.units import Unit
from esv_ray.job.order import shuffled
from esv_ray.job.progress import Progress
from esv_ray.job.result import JobResult
from esv_ray.job.scheduling.waiting import Waiting
from esv_ray.models.saving import save_heads
from esv_ray.output import finish
from esv_ray.output.commits import commit_unit
from esv_ray.output.manifest import checksum_of
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import JobSpec, fingerprint, load_spec
from esv_ray.spec_train import load_train_spec
from esv_ray.submit.status import read_status, status_lines
from tests.conftest import make_heads, make_prior
from tests.support.jobs import files_of
from tests.support.lying_stores import LosesWrites, Unconditional, lying_stores
from tests.support.units import one_range

OPTIONS = ("cluster.actors=0", "compute.unit=4", "frames=[2,9]", "estimator.m=6")
UNITS = 10


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is looked for again at once."""
    monkeypatch.setattr(finish, "_PAUSES_S", (0.0, 0.0))


@pytest.fixture
def stores() -> Iterator[None]:
    with lying_stores():
        yield


def spec_of(features: str, bundle: str, output: Path | str, *overrides: str) -> JobSpec:
    return load_spec({"features": features, "model": bundle, "output": str(output)}, [*OPTIONS, *overrides])


def run(features: str, bundle: str, output: Path | str, *overrides: str, **options: Any) -> JobResult:
    return run_job(spec_of(features, bundle, output, *overrides), **options)


def attribute(features: str, bundle: str, output: Path | str, *overrides: str) -> Result:
    options = [part for override in (*OPTIONS, *overrides) for part in ("--set", override)]
    places = ["--features", features, "--model", bundle, "--output", str(output)]
    return CliRunner().invoke(cli, ["attribute", *places, *options])


@pytest.fixture
def clean(features: str, bundle: str, tmp_path: Path) -> dict[str, bytes]:
    """Tables of an undisturbed run, and its _SUCCESS."""
    run(features, bundle, tmp_path / "clean")
    return tables_of(tmp_path / "clean")


def tables_of(output: Path) -> dict[str, bytes]:
    return {**files_of(output), "_SUCCESS": (output / "_SUCCESS").read_bytes()}


def parts(output: Path, folder: str) -> list[Path]:
    return sorted((output / folder).glob("part-*"))


# Exit code 0 means: everything is there -------------------------------------------------------------------------------


def test_a_listing_that_is_late(stores: None, features: str, bundle: str) -> None:
    """Units are seen by name, though a listing has none of them."""
    result = run(features, bundle, "late://out")
    assert (result.exit_code, result.finished, result.counts.rows) == (0, True, 40)
    assert storage.exists("late://out/_SUCCESS")


@pytest.mark.slow
def test_writes_that_are_lost(stores: None, features: str, bundle: str) -> None:
    """Of ten units some lack a file; the exit code is 1 until a run brings the last of them."""
    codes = []
    for _ in range(8):
        result = run(features, bundle, "loses://out")
        codes.append(result.exit_code)
        assert result.finished == storage.exists("loses://out/_SUCCESS") == (result.exit_code == 0)
        if result.exit_code == 0:
            break
        left = len(result.missing) + len(result.quarantined)
        assert 0 < left < UNITS
        assert result.counts.rows == 40 - 4 * left
        progress = read_status("loses://out").progress
        assert progress is not None
        assert (progress["state"], progress["units"]["done"]) == ("incomplete", UNITS - left)
        assert progress["units"]["missing"] == len(result.missing)
    assert codes[0] == 1
    assert codes[-1] == 0
    assert LosesWrites.puts > 2 * UNITS
    assert verify_output("loses://out").problems == ()


def test_a_mark_of_success_that_is_lost(stores: None, features: str, bundle: str) -> None:
    with pytest.raises(IncompleteError, match=r"_SUCCESS was written but cannot be found: .*; run again"):
        run(features, bundle, "unmarked://out")


def everything(output: Path) -> None:
    while output.exists():  # the progress file may be written meanwhile
        shutil.rmtree(output, ignore_errors=True)


def one_mark(output: Path) -> None:
    parts(output, "videos")[0].unlink()


def one_attributions_file(output: Path) -> None:
    parts(output, "attributions")[0].unlink()


def removing(what: Callable[[Path], None], output: Path, after: int = 3) -> Callable[[Progress], None]:
    """Remove something once, in the middle of a run."""
    removed: list[bool] = []

    def report(progress: Progress) -> None:
        if progress.units and progress.units_done >= after and not removed:
            removed.append(True)
            what(output)

    return report


@pytest.mark.slow
@pytest.mark.parametrize("what", [everything, one_mark, one_attributions_file])
def test_what_is_removed_in_mid_job(
    what: Callable[[Path], None], features: str, bundle: str, tmp_path: Path, clean: dict[str, bytes]
) -> None:
    """The run says how many units are missing and ends with 1; the next computes them, with the same bits."""
    out = tmp_path / "out"
    result = run(features, bundle, out, report=removing(what, out))
    assert (result.exit_code, bool(result.missing)) == (1, True)
    assert not (out / "_SUCCESS").exists()
    there = UNITS - len(result.missing) - len(result.quarantined)  # one may have been written just then
    status = read_status(str(out))
    assert (status.progress or {})["state"] == "incomplete"
    lines = "\n".join(status_lines(status, 0.0))
    assert f"{there} of {UNITS} units" in lines
    assert f"{len(result.missing)} committed units are missing: run the job again" in lines
    again = run(features, bundle, out)
    assert (again.exit_code, again.resumed_units) == (0, there)
    assert tables_of(out) == clean


def test_the_command_says_what_is_missing(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out)
    (out / "_SUCCESS").unlink()
    parts(out, "attributions")[3].unlink()
    with pytest.MonkeyPatch.context() as patch:  # what the next run commits is removed again
        patch.setattr("esv_ray.output.commits.publish", lambda *arguments, **options: None)
        result = attribute(features, bundle, out)
    assert result.exit_code == 1, result.output
    assert (
        f"1 of {UNITS} units were committed and are not in {out}: they were removed, or the storage loses"
        in result.output
    )
    assert result.output.count("run the same command again to resume") == 1
    assert f"unit {parts(out, 'videos')[3].name} is missing" in result.output


# What another job made ------------------------------------------------------------------------------------------------


@pytest.fixture
def other(features: str, bundle: str, tmp_path: Path) -> Path:
    """Another job's output on the same features: files of the same names."""
    save_heads(str(tmp_path / "other-model"), make_heads(seed=9), make_prior(3))
    run(features, str(tmp_path / "other-model"), tmp_path / "other")
    return tmp_path / "other"


@pytest.mark.slow
def test_a_unit_of_another_job_is_refused(features: str, bundle: str, tmp_path: Path, other: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out)
    clean = tables_of(out)
    for folder in ("videos", "attributions"):
        assert [path.name for path in parts(other, folder)] == [path.name for path in parts(out, folder)]
        shutil.copy(parts(other, folder)[2], parts(out, folder)[2])
    named = rf"videos/{parts(out, 'videos')[2].name}: expected a file of this job \(\w+\), got one of another job"
    for left in (False, True):
        if left:  # a job that is not finished, too
            (out / "_SUCCESS").unlink()
            parts(out, "videos")[5].unlink()
        with pytest.raises(JobError, match=named):
            run(features, bundle, out)
    verification = verify_output(str(out))
    assert any("got one of another job" in problem for problem in verification.problems)
    assert verification.redo == (parts(out, "videos")[2].name,)
    result = CliRunner().invoke(cli, ["verify", "--repair", str(out)])
    assert (result.exit_code, "2 files moved to" in result.output) == (1, True), result.output
    assert run(features, bundle, out).exit_code == 0
    assert tables_of(out) == clean


@pytest.mark.slow
def test_attributions_of_another_job_are_found_at_the_end(
    features: str, bundle: str, tmp_path: Path, other: Path
) -> None:
    out = tmp_path / "out"

    def swap(output: Path) -> None:
        name = parts(output, "attributions")[0].name
        shutil.copy(other / "attributions" / name, output / "attributions" / name)

    with pytest.raises(IncompleteError, match=r"attributions/part-\S+: expected a file of this job .* another job .*"):
        run(features, bundle, out, report=removing(swap, out))
    assert not (out / "_SUCCESS").exists()
    assert (read_status(str(out)).progress or {})["state"] == "failed"


@pytest.mark.slow
def test_a_file_in_no_plan_is_refused(features: str, bundle: str, tmp_path: Path) -> None:
    """Whoever reads the folder would take its rows for results."""
    out = tmp_path / "out"
    run(features, bundle, out)
    shutil.copy(parts(out, "attributions")[0], out / "attributions" / "copy.parquet")
    with pytest.raises(
        JobError, match=r"expected the files of its job only, found attributions/copy\.parquet; .*--repair"
    ):
        run(features, bundle, out)
    assert CliRunner().invoke(cli, ["verify", "--repair", str(out)]).exit_code == 1
    assert (out / "_aside" / "000001" / "attributions" / "copy.parquet").exists()
    assert run(features, bundle, out).exit_code == 0


def test_two_specs_at_once_on_a_store_without_conditions(
    stores: None, features: str, bundle: str, tmp_path: Path
) -> None:
    """Whoever writes run.json last wins; the other says so, and their tables never mix."""
    save_heads(str(tmp_path / "other-model"), make_heads(seed=9), make_prior(3))
    ended: list[int] = []

    def other(output: Path) -> None:
        storage.remove("unconditional://out/run.json", "remove")  # it looked before this one's was written
        ended.append(run(features, str(tmp_path / "other-model"), "unconditional://out").exit_code)

    with pytest.raises(IncompleteError, match=r"another job has replaced run\.json; two jobs cannot share an output"):
        run(features, bundle, "unconditional://out", report=removing(other, tmp_path, after=0))
    assert ended == [0]
    assert verify_output("unconditional://out").problems == ()


@pytest.mark.slow
def test_run_json_that_another_overwrites_at_once(stores: None, features: str, bundle: str, tmp_path: Path) -> None:
    """On a store that ignores the condition: what was written is read back before anything is computed."""
    save_heads(str(tmp_path / "other-model"), make_heads(seed=9), make_prior(3))
    run(features, str(tmp_path / "other-model"), "unconditional://other")
    others = storage.read_bytes("unconditional://other/run.json", "read")
    write = Unconditional.pipe_file

    def overtaken(store: Unconditional, path: str, value: bytes, mode: str = "overwrite") -> None:
        write(store, path, others if path.endswith("/run.json") else value, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Unconditional, "pipe_file", overtaken)
        with pytest.raises(JobError, match=r"holds another job's results; model: expected "):
            run(features, bundle, "unconditional://out")
    assert not storage.exists("unconditional://out/videos")


# Where an output may go -----------------------------------------------------------------------------------------------


def test_an_output_goes_into_no_other_things(features: str, bundle: str, tmp_path: Path) -> None:
    for place in (bundle, features, str(tmp_path)):
        before = {path: path.read_bytes() for path in Path(place).rglob("*") if path.is_file()}
        with pytest.raises(EsvError) as caught:
            run(features, bundle, place)
        assert "\n" not in str(caught.value)
        assert {path: path.read_bytes() for path in Path(place).rglob("*") if path.is_file()} == before
    with pytest.raises(
        DataError, match=r"expected an empty or absent folder for the output, found classes\.csv, head-01\.s"
    ):
        plan_job(spec_of(features, bundle, bundle))
    daily = tmp_path / "daily"
    shutil.copytree(features, daily / "monday")
    with pytest.raises(DataError, match=r"or outputs of partitions, found classes\.csv, head-01\.safetensors"):
        plan_partitions(spec_of(str(daily), bundle, bundle))


@pytest.mark.parametrize("folder", ["videos", "attributions"])
def test_a_folder_that_is_named_like_a_table_is_no_output(
    folder: str, features: str, bundle: str, tmp_path: Path
) -> None:
    """A data set keeps its clips in videos/."""
    clip = tmp_path / "out" / folder / "clip.mp4"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"clip")
    with pytest.raises(
        JobError, match=rf"found results without a run\.json .*{folder}/clip\.mp4.*choose another output"
    ):
        run(features, bundle, tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [clip]


@pytest.mark.slow
def test_what_a_submission_and_a_repair_leave_may_be_there(
    features: str, bundle: str, tmp_path: Path, clean: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    for name in ("_submissions/esv-a-1.yaml", "_aside/000001/run.json", "progress.json", ".hidden"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("{}")
    assert run(features, bundle, out).exit_code == 0
    assert tables_of(out) == clean


def test_a_bundle_goes_into_no_other_things(features: str, tmp_path: Path) -> None:
    from esv_ray.training.work import train

    out = tmp_path / "notes"
    out.mkdir()
    (out / "prior.csv").write_text("mine")
    with pytest.raises(DataError, match=r"expected an empty or absent folder for the output, found prior\.csv; choose"):
        train(load_train_spec({"features": features, "output": str(out), "n_max": 1, "epochs": 1}))
    with pytest.raises(DataError, match=r"found prior\.csv; choose"):
        save_heads(str(out), make_heads(), make_prior(3))
    assert (out / "prior.csv").read_text() == "mine"
    (out / "head-01.safetensors").write_bytes(b"of a training that was killed")
    save_heads(str(out), make_heads(), make_prior(3))


@pytest.mark.slow
def test_attributions_of_another_job_without_a_mark_are_put_aside(
    features: str, bundle: str, tmp_path: Path, other: Path
) -> None:
    out = tmp_path / "out"
    run(features, bundle, out)
    clean = tables_of(out)
    name = parts(out, "videos")[3].name
    (out / "videos" / name).unlink()
    shutil.copy(other / "attributions" / name, out / "attributions" / name)
    result = run(features, bundle, out)
    assert result.exit_code == 1
    assert "got one of another job" in result.quarantined[name]
    assert not (out / "_SUCCESS").exists(), "the job is not finished any more"
    assert verify_output(str(out)).redo == (name,)
    assert CliRunner().invoke(cli, ["verify", "--repair", str(out)]).exit_code == 1
    assert run(features, bundle, out).exit_code == 0
    assert tables_of(out) == clean


@pytest.mark.slow
def test_whatever_lies_in_the_tables_is_moved_aside(features: str, bundle: str, tmp_path: Path) -> None:
    """Folders, links that lead nowhere and pipes, which no reader survives."""
    out = tmp_path / "out"
    run(features, bundle, out)
    clean = tables_of(out)
    (out / "videos" / "sub").mkdir()
    (out / "videos" / "sub" / "x.parquet").write_bytes(b"x")
    (out / "videos" / "link.parquet").symlink_to(tmp_path / "nowhere")
    os.mkfifo(out / "attributions" / "pipe.parquet")
    with pytest.raises(JobError, match="expected the files of its job only, found videos/"):
        run(features, bundle, out)
    assert CliRunner().invoke(cli, ["verify", "--repair", str(out)]).exit_code == 1
    aside = (out / "_aside" / "000001").glob("*/*")
    assert sorted(path.name for path in aside) == ["link.parquet", "pipe.parquet", "sub"]
    assert run(features, bundle, out).exit_code == 0
    assert tables_of(out) == clean


@pytest.mark.slow
def test_a_partition_whose_tables_were_removed_is_due(features: str, bundle: str, tmp_path: Path) -> None:
    daily, out = tmp_path / "daily", tmp_path / "out"
    shutil.copytree(features, daily / "monday")
    command = ["attribute", "--features", str(daily), "--model", bundle, "--output", str(out), "--partitions"]
    command += [part for option in OPTIONS for part in ("--set", option)]
    assert CliRunner().invoke(cli, command).exit_code == 0
    clean = tables_of(out / "monday")
    for folder in ("videos", "attributions"):
        shutil.rmtree(out / "monday" / folder)
        result = CliRunner().invoke(cli, command)
        assert (result.exit_code, "1 attributed now" in result.output) == (0, True), result.output
        assert tables_of(out / "monday") == clean


# run.json that is damaged ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[" * 100_000,
        lambda text: text.replace('"prior": [', '"prior": [NaN, '),
        lambda text: json.dumps({**json.loads(text), "units": [[0, 0, 0, 10**30, 0]]}),
        lambda text: json.dumps({**json.loads(text), "units": json.loads(text)["units"][:-1]}),
        lambda text: text.replace('"prior": [', '"prior": [0.0, '),
        lambda text: text.replace('"estimator": {', '"estimators": {'),
    ],
    ids=["half", "empty", "deep", "NaN", "huge", "fewer units", "longer prior", "no estimator"],
)
def test_a_damaged_run_json_is_repaired(
    damage: Callable[[str], str], features: str, bundle: str, tmp_path: Path, clean: dict[str, bytes]
) -> None:
    """One line, exit code 1, and how to go on; no committed unit is computed again."""
    out = tmp_path / "out"
    run(features, bundle, out)
    parts(out, "videos")[4].unlink()  # it was not finished
    (out / "_SUCCESS").unlink()
    kept = {path: path.stat().st_mtime_ns for path in parts(out, "videos")}
    (out / "run.json").write_text(damage((out / "run.json").read_text()))
    result = CliRunner().invoke(cli, ["verify", str(out)])
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    first, *_, last = result.output.splitlines()
    assert first.startswith(f"{out}/run.json: expected a job's manifest, got something else (")
    assert f"esv verify --repair {out}" in first
    assert last == f"to repair: esv verify --repair {out}, then run the job again"
    with pytest.raises(DataError, match="esv verify --repair"):
        run(features, bundle, out)
    result = CliRunner().invoke(cli, ["verify", "--repair", str(out)])
    assert (result.exit_code, "1 file moved to" in result.output) == (1, True), result.output
    again = run(features, bundle, out)
    assert (again.exit_code, again.resumed_units) == (0, UNITS - 1)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert tables_of(out) == clean


@pytest.mark.slow
def test_tables_without_run_json_are_gone_on_with_by_their_own_job_alone(
    features: str, bundle: str, tmp_path: Path, other: Path, clean: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    run(features, bundle, out)
    (out / "run.json").unlink()
    with pytest.raises(
        JobError, match=r"found results without a run\.json that do not belong to this job .*another job"
    ):
        run(features, str(tmp_path / "other-model"), out)
    with pytest.raises(JobError, match=r"found results without a run\.json that do not belong to this job"):
        run(features, bundle, out, "estimator.seed=1")
    again = run(features, bundle, out)
    assert (again.exit_code, again.resumed_units) == (0, UNITS)
    assert tables_of(out) == clean


def noting(call: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    """The call, its first argument noted."""

    def noted(first: Any, *rest: Any, **options: Any) -> Any:
        calls.append(first)
        return call(first, *rest, **options)

    return noted


@pytest.mark.slow
def test_nothing_outside_the_features_is_opened_for_a_run_json(features: str, bundle: str, tmp_path: Path) -> None:
    """A location that another wrote: the file is named, and not read."""
    out, secret = tmp_path / "out", tmp_path / "secret.parquet"
    run(features, bundle, out)
    shutil.copy(Path(features) / "part-0.parquet", secret)
    original = json.loads((out / "run.json").read_text())
    opened: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("reader", "read_bytes", "open_location"):
            before = getattr(storage, name)
            patch.setattr(storage, name, noting(before, opened))
        for url in (
            str(secret),
            f"{features}/../secret.parquet",
            "http://127.0.0.1:1/x",
            "reference::http://127.0.0.1:1/x",
            "s3://bucket/x",
        ):
            content = {**original, "files": [[url, *original["files"][0][1:]], *original["files"][1:]]}
            (out / "run.json").write_text(json.dumps({**content, "checksum": checksum_of(content)}))
            problems = [problem for problem in verify_output(str(out)).problems if "not opened" in problem]
            assert problems == [f"{url}: in run.json, but not a file of the features {features}; it is not opened"]
            assert url not in opened


@pytest.mark.slow
def test_features_elsewhere_are_not_asked_for_a_run_json(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out)
    for url in ("http://127.0.0.1:1/x", "reference::http://127.0.0.1:1/x", "reference::", "s3://bucket/x"):
        text = (out / "run.json").read_text()
        content = json.loads(text)
        content["spec"]["features"] = content["keys"]["features"] = url
        content["fingerprint"] = fingerprint(content["keys"])
        (out / "run.json").write_text(json.dumps({**content, "checksum": checksum_of(content)}))
        verification = verify_output(str(out))
        (out / "run.json").write_text(text)
        (note,) = verification.notes
        assert note.startswith(f"not compared with the input: run.json names {url}; give --features {url} if")


# Several drivers of one job -------------------------------------------------------------------------------------------


def units_of(files: int, groups: int, units: int) -> list[Unit]:
    plan: list[Unit] = []
    for file in range(files):
        of = InputFile(f"f{file}", 1, "v")
        for group in range(groups):
            plan += [one_range(len(plan) + i, of, group, i, i + 1, i) for i in range(units)]
    return plan


@pytest.mark.parametrize(
    ("shape", "most"), [((1, 1, 400), 2.0), ((1, 40, 10), 1.3), ((40, 1, 10), 1.3), ((400, 1, 1), 1.1)]
)
def test_drivers_that_look_first_share_the_work(shape: tuple[int, int, int], most: float) -> None:
    """Five drivers, two units in flight each, all equally fast: the worst case for computing a unit twice.

    Of one row group of 400 units more are computed twice: were it cut into more runs, every driver would decode the
    whole group again for each run.
    """
    plan, drivers = units_of(*shape), 5
    orders = [shuffled(plan, Random(seed)) for seed in range(drivers)]
    assert all(sorted(order, key=lambda unit: unit.index) == plan for order in orders)
    committed: set[int] = set()
    computed = 0
    groups = {unit.index: (unit.source, unit.group) for unit in plan}
    left = [(Waiting([unit.index for unit in order], groups), Random(seed)) for seed, order in enumerate(orders)]
    while len(committed) < len(plan):
        flight = set()
        for waiting, random in left:
            for _ in range(2):
                unit = waiting.take("actor") if waiting else None
                while unit in committed and waiting:
                    waiting.leave("actor", random)
                    unit = waiting.take("actor")
                if unit is not None and unit not in committed:
                    flight.add(unit)
                    computed += 1
        committed |= flight
    assert computed < most * len(plan)


@pytest.mark.slow
def test_units_that_another_driver_committed_are_not_computed(
    features: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other begins after this one planned, and is done before its first unit."""
    out = tmp_path / "out"
    done: list[int] = []
    computed: list[Any] = []

    def other(progress: Progress) -> None:
        if progress.units and not done:
            done.append(0)
            done[0] = run(features, bundle, out).exit_code

    monkeypatch.setattr("esv_ray.attribution.unit.commit_unit", noting(commit_unit, computed))
    result = run(features, bundle, out, report=other)
    assert done == [0]
    assert (result.exit_code, result.counts.rows) == (0, 40)
    assert len(computed) == UNITS, "by the other alone"
    assert pq.read_table(out / "videos").num_rows > 0


# A progress file that anybody may have written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        '{"state": "running", "videos": 3, "units": [], "actors": "x"}',
        '{"state": "running", "videos": {"total": "x", "ok": NaN, "failed": null, "resumed": [1]}, "left_s": "soon"}',
        '{"state": 7, "videos": {"total": 1e400, "ok": -1}, "videos_per_second": "fast", "updated": 3}',
        '{"state": "running", "waiting_for": {"a": 1}, "units": {"total": "many", "missing": "some"}}',
        '{"state": "running", "partitions": [1], "problems": "x", "partition": "."}',
        '{"state": "running", "partitions": {}, "partition": ".."}',
        '{"state": "running", "partitions": {}, "partition": "../../elsewhere"}',
        '{"failures": {"\\u001b[2J": "x"}, "units_given_up": {"a": {"b": 1}}}',
    ],
)
def test_status_of_a_hostile_progress_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text(content)
    result = CliRunner().invoke(cli, ["status", f"{tmp_path}/"])
    assert result.exception is None or isinstance(result.exception, EsvError)
    assert "\x1b" not in result.output
