"""A file that crashes its decoder, makes it hang, or takes it over costs its own frames only."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from esv_ray.decoding import DECODERS, Decoder, Evenly, Every, Stretch, open_decoder
from esv_ray.decoding.isolated import IsolatedDecoder
from esv_ray.decoding.selection import evenly
from esv_ray.errors import DataError, JobError, SpecError
from tests.decoding.conftest import decoded
from tests.support.videos import write_video

SCRIPTED = "tests.support.decoders:Scripted"


@pytest.fixture
def scripted(request: pytest.FixtureRequest) -> Iterator[IsolatedDecoder]:
    """A decoder that does what its file says; a short patience only where a test needs one: the machine may be busy."""
    decoder = IsolatedDecoder(SCRIPTED, threads=1, patience=getattr(request, "param", 60), memory=2**30)
    yield decoder
    decoder.close()


def script(tmp_path: Path, what: str) -> Path:
    path = tmp_path / f"{what.replace(' ', '-')}.mp4"
    path.write_text(what)
    return path


@pytest.mark.parametrize(
    ("what", "message", "scripted"),
    [
        ("crash", r"expected a video, got a file whose decoder crashed \(SIGSEGV\)", 60),
        ("killed", r"decoder was killed \(SIGKILL\), perhaps for want of memory", 60),
        ("exit", "decoder ended with exit code 3", 60),
        ("hang", "decoder made no progress in 3 s", 3),
        ("nonsense", "decoder sent nonsense", 60),
        ("memory", r"expected a video that needs at most the 1\.1 GB of memory of a decoding process", 60),
    ],
    indirect=["scripted"],
)
def test_a_bad_end_costs_its_file_only(what: str, message: str, scripted: IsolatedDecoder, tmp_path: Path) -> None:
    """Frames that came before are given; the error is one line with the name; the next video is decoded."""
    with scripted.open(str(script(tmp_path, what))) as video:
        frames = video.frames(Every())
        assert next(frames).index == 0
        with pytest.raises(DataError, match=message) as caught:
            next(frames)
    assert what in str(caught.value) or what == "memory"
    assert "\n" not in str(caught.value)
    good, summary = decoded(scripted, script(tmp_path, "nothing happens"))
    assert [frame.index for frame in good] == [0, 1, 2]
    assert (summary.lost, summary.notes) == (7, ("a note",))


def test_a_crash_while_a_video_is_opened(scripted: IsolatedDecoder, tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"crash-at-the-start\.mp4: .* crashed \(SIGSEGV\)"),
        scripted.open(str(script(tmp_path, "crash at the start"))),
    ):
        pass
    assert len(decoded(scripted, script(tmp_path, "nothing happens"))[0]) == 3


@pytest.mark.parametrize("scripted", [3], indirect=True)
def test_slow_is_not_hung(scripted: IsolatedDecoder, tmp_path: Path) -> None:
    """A decoder that goes on, here for 4 s, is not ended after 3 s."""
    started = time.monotonic()
    assert len(decoded(scripted, script(tmp_path, "slow"))[0]) == 3
    assert time.monotonic() - started > 3.9


def test_an_error_of_the_decoder_itself_is_no_error_of_the_file(scripted: IsolatedDecoder, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        decoded(scripted, script(tmp_path, "bug"))


def test_one_process_decodes_all_videos_until_it_ends(scripted: IsolatedDecoder, tmp_path: Path) -> None:
    """Its number is the color of the frames."""
    good, bad = script(tmp_path, "nothing happens"), script(tmp_path, "crash")
    numbers = [decoded(scripted, good)[0][0].image[0, 0, 0] for _ in range(3)]
    assert len(set(numbers)) == 1
    assert numbers[0] != os.getpid() % 256
    with pytest.raises(DataError):
        decoded(scripted, bad)
    assert decoded(scripted, good)[0][0].image[0, 0, 0] != numbers[0]


def test_a_process_that_was_killed_between_two_videos_is_started_again(
    scripted: IsolatedDecoder, tmp_path: Path
) -> None:
    good = script(tmp_path, "nothing happens")
    decoded(scripted, good)
    os.kill(scripted.process().number, signal.SIGKILL)
    time.sleep(0.1)
    assert len(decoded(scripted, good)[0]) == 3


def test_a_hung_decoder_is_not_waited_for_where_its_frames_are_not_wanted(
    scripted: IsolatedDecoder, tmp_path: Path
) -> None:
    with scripted.open(str(script(tmp_path, "hang"))) as video:
        assert next(video.frames(Every())).index == 0
    assert len(decoded(scripted, script(tmp_path, "nothing happens"))[0]) == 3


def test_a_decoder_that_cannot_start(tmp_path: Path) -> None:
    decoder = IsolatedDecoder("tests.support.no_such_module:Nothing", threads=1, patience=1)
    with pytest.raises(JobError, match="a decoding process does not start: it ended with exit code 1; ModuleNotFound"):
        decoded(decoder, script(tmp_path, "nothing happens"))


def test_a_decoder_that_is_not_known() -> None:
    with pytest.raises(SpecError, match="decoder: expected one of pyav, got 'torchcodec'"):
        open_decoder("torchcodec")


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SpecError, match=r"pip install 'esv-ray\[video\]'"):
        open_decoder()


def test_the_process_has_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    decoder = IsolatedDecoder(SCRIPTED, threads=1, patience=5)
    environment = Path(f"/proc/{decoder.process().number}/environ").read_bytes()
    decoder.close()
    assert b"secret" not in environment
    assert b"PYTHONPATH" in environment


def test_the_process_imports_no_client_of_a_store() -> None:
    """It opens nothing, and starts soon."""
    code = (
        "import sys, esv_ray.decoding.child, esv_ray.decoding.pyav\n"
        "print([name for name in ('fsspec', 'pyarrow', 'ray', 'torch', 'esv_ray.storage') if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    """Even if the parent is killed while the decoder hangs."""
    path = script(tmp_path, "hang")
    code = (
        "import sys\nfrom esv_ray.decoding import Every\nfrom esv_ray.decoding.isolated import IsolatedDecoder\n"
        f"decoder = IsolatedDecoder({SCRIPTED!r}, threads=1, patience=100)\n"
        f"video = decoder.open({str(path)!r}).__enter__()\n"
        "print(decoder.process().number, flush=True)\nlist(video.frames(Every()))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    number = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{number}").exists() and "Z" not in Path(f"/proc/{number}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("opened", [60, pytest.param(500, marks=pytest.mark.soak)])
def test_many_videos_leak_nothing(opened: int, folder: Path) -> None:
    """Neither files nor memory, here or in the decoding process."""
    path = write_video(folder / "leak.mp4", frames=3)
    decoder = IsolatedDecoder(DECODERS["pyav"], threads=1, patience=60)

    def open_and_stop(times: int) -> None:
        for _ in range(times):
            with decoder.open(str(path)) as video:
                next(video.frames(Every(), resize=Stretch(16, 16)))

    open_and_stop(30)
    both = [os.getpid(), decoder.process().number]
    before = [used(number) for number in both]
    open_and_stop(opened)
    for (files, memory), (files_before, memory_before) in zip([used(number) for number in both], before, strict=True):
        assert files <= files_before + 1  # the process may not have closed the last one yet
        assert memory - memory_before < 4e6
    decoder.close()


def test_the_memory_does_not_grow_with_the_length(folder: Path) -> None:
    """Frames of 0.9 MB, 60 of them: at most a few wait."""
    path = write_video(folder / "large.mp4", frames=60, size=(480, 640), options={"preset": "ultrafast"}, still=True)
    decoder = IsolatedDecoder(DECODERS["pyav"], threads=1, patience=60)
    memory = {}
    with decoder.open(str(path)) as video:
        for frame in video.frames(Every()):
            if frame.index in (10, 59):
                memory[frame.index] = [used(number)[1] for number in (os.getpid(), decoder.process().number)]
    decoder.close()
    growth = sum(memory[59]) - sum(memory[10])
    assert growth < 20e6 < 49 * 480 * 640 * 3


@pytest.mark.soak
def test_twelve_hours(decoder: Decoder, folder: Path) -> None:
    """43,200 frames, one a second: few of them are found soon, and all of them take no more memory."""
    path = folder / "twelve-hours.mp4"
    if not path.exists():
        write_video(path, frames=43_200, size=(16, 16), rate=1, codec="mpeg4", still=True)
    before = used(os.getpid())[1]
    frames, summary = decoded(decoder, path, Evenly(8))
    assert [frame.index for frame in frames] == evenly(43_200, 8)
    assert (summary.total, summary.shown) == (43_200, 8)
    with decoder.open(str(path)) as video:
        assert sum(1 for _ in video.frames(Every())) == 43_200
    assert used(os.getpid())[1] - before < 20e6


def test_one_video_at_a_time(scripted: IsolatedDecoder, tmp_path: Path) -> None:
    """Two would share the process."""
    path = str(script(tmp_path, "nothing happens"))
    with scripted.open(path), pytest.raises(ValueError, match="one video at a time"), scripted.open(path):
        pass
    assert len(decoded(scripted, path)[0]) == 3


def used(number: int) -> tuple[int, int]:
    """The open files of a process, and the bytes of memory that it uses."""
    pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
    return len(list(Path(f"/proc/{number}/fd").iterdir())), pages * resource.getpagesize()
