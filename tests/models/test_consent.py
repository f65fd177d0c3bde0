"""Whose code may run: nothing of a bundle's naming is imported unless the user named the package and it is marked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import esv_ray
from esv_ray.consent import check_packages, covers, is_factory
from esv_ray.errors import EsvError, ModelError, SpecError
from esv_ray.models.bundle import load_model
from tests.support import preloaded
from tests.support.model_bundles import edit, python_bundle, refusal
from tests.support.preloaded import Process

WHERE = ", is it installed where the job runs, or in the folder where esv starts? "
RAISES = " was found, but an error is raised while it is imported: "
PACKAGE = "esv_zoo"  # a package that these tests make
ZOO = """
import esv_ray, functools, os, torch
from esv_other import make as elsewhere, plain
from torch import nn
MADE = []

class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        nn.init.constant_(self.linear.weight, 0.1)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return self.linear(x).mean(dim=1)

@esv_ray.factory
def make(**arguments):
    return Mean()

@esv_ray.factory
@torch.no_grad()
def decorated():
    return Mean()

@esv_ray.factory
def exits():
    raise SystemExit(0)

def unmarked():
    return Mean()

class Marked:
    __esv_ray_factory__ = True
    def __call__(self):
        return Mean()

class Answers:
    def __getattr__(self, name):
        return True
    def __call__(self):
        return Mean()

marked = Marked()
answers = Answers()
cached = functools.lru_cache(make)
partial = functools.partial(make)
method = Marked().__call__

def __getattr__(name):
    if name == "lazy":
        return make
    raise AttributeError(name)
"""
OTHER = """
import esv_ray
@esv_ray.factory
def make():
    raise RuntimeError("ran")
def plain():
    raise RuntimeError("ran")
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Packages of a user: esv_zoo, which uses esv_other; esv_zoo_evil, whose name only begins alike."""
    home = tmp_path / "site"
    for name, text in ((PACKAGE, ""), (f"{PACKAGE}_evil", "raise SystemExit('imported')")):
        (home / name).mkdir(parents=True)
        (home / name / "__init__.py").write_text(text)
    (home / PACKAGE / "zoo.py").write_text(ZOO)
    (home / "esv_other.py").write_text(OTHER)
    (home / PACKAGE / "exits.py").write_text("import sys; sys.exit(0)")
    (home / PACKAGE / "fails.py").write_text("raise OSError('weights\\nare not here')")
    (home / PACKAGE / "quits.py").write_text("class Quit(BaseException): pass\nraise Quit")
    monkeypatch.syspath_prepend(home)
    monkeypatch.setenv("PYTHONPATH", f"{home}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    yield home
    for name in [name for name in sys.modules if name.startswith(("esv_zoo", "esv_other"))]:
        del sys.modules[name]


def imported() -> set[str]:
    return {name for name in sys.modules if name.startswith(("esv_zoo", "esv_other"))}


# --- what is allowed


@pytest.mark.parametrize("code", ["esv_zoo", ["esv_zoo"], ("other", "esv_zoo.zoo"), {"esv_zoo"}])
@pytest.mark.usefixtures("zoo")
def test_a_package_that_was_named_runs(tmp_path: Path, code: Any) -> None:
    for name in ("make", "decorated"):
        assert load_model(python_bundle(tmp_path / name, f"esv_zoo.zoo:{name}"), code=code).n_max is None


@pytest.mark.parametrize(
    "code",
    [(), None, [], "esv", "esv_zo", "esv_zoo_evil", "esv_zoo.other", "esv_zoo.zoo.make", "esv_zoo.zo", "zoo", "os"],
)
@pytest.mark.usefixtures("zoo")
def test_nothing_else_is_imported(tmp_path: Path, code: Any) -> None:
    url = python_bundle(tmp_path / "model", "esv_zoo.zoo:make", arguments={"width": 1, "a b": [2]})
    text = refusal(url, code=code)
    given = f" (only for {code!r})" if code else ""
    assert text == (
        f"{url}/model.json: factory: expected consent to run code, got none for esv_zoo.zoo:make(width, 'a b'){given}; "
        "if you trust the package esv_zoo, allow it: --code esv_zoo, or code: [esv_zoo] in the spec, or "
        "load_model(..., code=['esv_zoo'])"
    )
    assert imported() == set()


def test_a_name_that_begins_alike_is_another_package() -> None:
    assert covers(["a.b"], "a.b")
    assert covers(["a.b"], "a.b.c.d")
    assert not any(covers(["a.b"], other) for other in ("a", "a.bc", "a.bc.d", "x.a.b", "b"))
    assert not covers([], "a")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (
            "esv_zoo.zoo:unmarked",
            "decorated with @esv_ray.factory, got esv_zoo.zoo:unmarked, which is a plain function",
        ),
        ("esv_zoo.zoo:Marked", "which is an object of type type"),
        ("esv_zoo.zoo:marked", "which is an object of type Marked"),
        ("esv_zoo.zoo:answers", "which is an object of type Answers"),
        ("esv_zoo.zoo:cached", "which is an object of type _lru_cache_wrapper"),
        ("esv_zoo.zoo:partial", "which is an object of type partial"),
        ("esv_zoo.zoo:method", "which is an object of type method"),
        ("esv_zoo.zoo:os", "which is an object of type module"),
        ("esv_zoo.zoo:plain", "which is a plain function"),
        ("esv_zoo.zoo:__getattr__", "which is a plain function"),
        ("esv_zoo.zoo:lazy", "esv_zoo.zoo defines no function lazy"),
        ("esv_zoo.zoo:none", "esv_zoo.zoo defines no function none"),
        ("esv_zoo.zoo:elsewhere", "is a function of esv_other, which is not allowed; name that package too"),
        (
            "esv_zoo.none:make",
            f"cannot import esv_zoo.none{WHERE}No module named",
        ),
        (
            "esv_zoo.fails:make",
            f"esv_zoo.fails{RAISES}OSError: weights are",
        ),
        (
            "esv_zoo.exits:make",
            f"esv_zoo.exits{RAISES}SystemExit: 0",
        ),
        (
            "esv_zoo.quits:make",
            f"esv_zoo.quits{RAISES}Quit",
        ),
        (
            "esv_zoo.zoo:exits",
            "esv_zoo.zoo:exits failed; check its arguments (it takes none) and what it reads: SystemExit: 0",
        ),
    ],
)
@pytest.mark.usefixtures("zoo")
def test_only_marked_functions_of_the_package_are_called(tmp_path: Path, factory: str, message: str) -> None:
    text = refusal(python_bundle(tmp_path / "model", factory), code="esv_zoo")
    assert message in text


@pytest.mark.usefixtures("zoo")
def test_a_function_of_two_packages_that_were_named_is_called(tmp_path: Path) -> None:
    text = refusal(python_bundle(tmp_path / "model", "esv_zoo.zoo:elsewhere"), code=["esv_zoo", "esv_other"])  # type: ignore[arg-type]
    assert text.endswith("RuntimeError: ran (esv_other.py, line 5, in make)")


@pytest.mark.parametrize(
    "factory",
    [
        *(
            "esv_zoo",
            "esv_zoo:",
            ":make",
            "esv_zoo.:make",
            ".esv_zoo:make",
            "esv_zoo..zoo:make",
            "esv_zoo/../os:system",
        ),
        *(
            "esv_zoo.zoo:os.system",
            "esv_zoo.zoo:make:x",
            "esv_zoo.zoo: make",
            "esv_zoo .zoo:make",
            "esv_zoo.zoo:make()",
        ),
        *(
            "esv_zoo\n:make",
            "esv_zoo\0:make",
            "esv-zoo:make",
            "..esv_zoo:make",
            "esv_zoo.\u202egnp:x",
            "1:2",
            "a" * 10**5,
        ),
    ],
    ids=range(19),
)
@pytest.mark.usefixtures("zoo")
def test_names_that_are_none(tmp_path: Path, factory: str) -> None:
    assert "factory: expected package.module:function, got " in refusal(
        python_bundle(tmp_path / "model", factory), code="esv_zoo"
    )
    assert imported() == set()


BAD_PACKAGES: list[Any] = [
    "",
    "a.",
    ".a",
    "a..b",
    "a b",
    "a/b",
    "../a",
    "a:b",
    "a,b",
    "-a",
    "a\n",
    3,
    True,
    {"a": 1},
    [["a"]],
]


@pytest.mark.parametrize("package", BAD_PACKAGES, ids=range(len(BAD_PACKAGES)))
def test_packages_that_are_none(package: Any, bundle: str) -> None:
    with pytest.raises(ValueError, match="expected names of Python packages"):
        check_packages(package)
    for code in (package, [package], ["good", package]):
        with pytest.raises(SpecError, match=r"^code: expected names of Python packages"):
            load_model(bundle, code=code)
        several = code in ("a b", "a,b")  # a list without its brackets, to a spec
        expected = "one value, or a list in brackets" if several else "names of Python packages"
        with pytest.raises(SpecError, match=f"code: expected {expected}"):
            esv_ray.load_spec({"features": "f", "model": "m", "output": "o", "code": code})


def test_the_mark_is_for_functions() -> None:
    @esv_ray.factory
    def make() -> None: ...

    assert is_factory(make)
    for value in (int, print, "text".upper, object()):
        with pytest.raises(ValueError, match="marks a plain function"):
            esv_ray.factory(value)  # type: ignore[type-var]
        assert not is_factory(value)


def test_the_documented_factory_is_one() -> None:
    page = (Path(esv_ray.__file__).parent / "docs" / "howto" / "model-factory.md").read_text()
    shown = page.partition("```python\n")[2].partition("```")[0]
    space: dict[str, Any] = {}
    exec(shown, space)
    assert is_factory(space["make"])


def test_built_in_kinds_need_no_consent_and_import_nothing_that_is_named(bundle: str) -> None:
    assert load_model(bundle, code=["esv_no_such_package"]).digest == load_model(bundle).digest
    edit(bundle, factory="os:system", arguments={"command": "false"})
    assert load_model(bundle).n_max == 3


# --- spec


def test_the_spec_carries_the_consent_and_no_result_depends_on_it() -> None:
    from esv_ray.spec import job_keys
    from esv_ray.submit.submission import spec_text

    places = {"features": "/f", "model": "/m", "output": "/o"}
    plain = esv_ray.load_spec(places)
    assert plain.code == ()
    assert esv_ray.load_spec({**places, "code": None}).code == ()
    spec = esv_ray.load_spec({**places, "code": "my_models"}, code=("company.zoo", "my_models"))
    assert spec.code == ("my_models", "company.zoo"), "those of the command line are added"
    assert esv_ray.load_spec(places, ["code=[a, b.c]"]).code == ("a", "b.c")
    assert job_keys(spec) == job_keys(plain)
    import yaml

    assert esv_ray.load_spec(yaml.safe_load(spec_text(spec))) == spec


# --- commands


def esv(*arguments: str, cwd: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; `code` runs there when it has ended."""
    after = textwrap.indent(code or "pass", "    ")
    main = f"import sys\nfrom esv_ray.cli import main\ntry:\n    main()\nfinally:\n{after}"
    return preloaded.run(arguments, cwd=cwd, program=main)


HOSTILE = {
    "sympy:sympify": {"a": "__import__('os').system('touch ran')"},
    "requests:get": {"url": "http://127.0.0.1:9/"},
    "smart_open:open": {"uri": "ran", "mode": "w"},
    "jinja2.utils:import_string": {"import_name": "antigravity"},
    "filelock:FileLock": {"lock_file": "ran"},
    "os:system": {"command": "touch ran"},
    "subprocess:getoutput": {"cmd": "touch ran"},
    "torch.hub:load": {"repo_or_dir": ".", "model": "x", "source": "local"},
    "esv_ray.storage:replace": {"url": "ran", "data": "", "doing": "x"},
    "esv_here:make": {},
}
WATCH = """\
import esv_ray.consent, json, os
print(json.dumps([name for name in os.environ["WATCHED"].split() if name in sys.modules]), file=sys.stderr)"""


@pytest.fixture
def unlocked(tmp_path: Path, features: str) -> list[str]:
    """A job whose bundle is hostile, in a folder in which code could leave a trace."""
    (tmp_path / "esv_here.py").write_text("open('ran', 'w')")
    return ["--features", features, "--model", str(tmp_path / "model"), "--output", str(tmp_path / "out")]


def test_hostile_bundles_import_nothing_and_do_nothing(
    tmp_path: Path, unlocked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules that `esv plan` imports itself are left out."""
    watched = ("sympy", "smart_open", "jinja2", "antigravity", "filelock", "torch.hub", "requests", "esv_here")
    before = esv("plan", *unlocked, cwd=tmp_path, code=WATCH.replace('os.environ["WATCHED"]', repr(" ".join(watched))))
    harmless = set(json.loads(before.stderr.splitlines()[-1]))  # with a model that is missing
    assert "no model.json" in before.stderr
    monkeypatch.setenv("WATCHED", " ".join(name for name in watched if name not in harmless))
    assert {"sympy", "smart_open", "esv_here", "antigravity"}.isdisjoint(harmless)
    for factory, arguments in HOSTILE.items():
        python_bundle(tmp_path / "model", factory, arguments=arguments)
        done = esv("plan", *unlocked, "--code", "esv_unknown", cwd=tmp_path, code=WATCH)
        assert done.returncode == 2, done.stderr
        message, loaded = done.stderr.splitlines()
        assert f"got none for {factory}({', '.join(arguments)})" in message
        assert json.loads(loaded) == [], factory
        assert not (tmp_path / "ran").exists(), factory
        assert not (tmp_path / "out").exists()


def test_a_package_that_was_named_but_has_no_marked_function_is_not_called(tmp_path: Path, unlocked: list[str]) -> None:
    """Consent to a package that was not made for it is not enough."""
    for factory in ("sympy:sympify", "filelock:FileLock", "os:system"):
        python_bundle(tmp_path / "model", factory, arguments=HOSTILE[factory])
        done = esv("plan", *unlocked, "--code", factory.partition(":")[0], cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "expected a function decorated with @esv_ray.factory" in done.stderr or "no model" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("zoo")
def test_every_command_that_loads_a_bundle_takes_consent(tmp_path: Path, features: str) -> None:
    model = python_bundle(tmp_path / "model", "esv_zoo.zoo:make")
    job = ["--features", features, "--model", model, "--output", str(tmp_path / "out"), "--set", "cluster.actors=0"]
    read = ["--features", features, "--model", model, "-n", "3", "-m", "4", "--videos", "2", "--threshold", "0"]
    for command in (["plan", *job], ["attribute", *job], ["convergence", *read]):
        refused = esv(*command, cwd=tmp_path)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert "--code esv_zoo, or code: [esv_zoo] in the spec" in refused.stderr
        done = esv(*command, "--code", "esv_zoo", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert esv("attribute", *job, "--set", "code=[esv_zoo, x]", cwd=tmp_path).returncode == 0, "it is the same job"
    wrong = esv("plan", *job, "--code", "esv_zoo/", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert wrong.stderr.startswith("esv: --code: expected names of Python packages")


@pytest.mark.slow
@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [("raise SystemExit(0)", 2, "SystemExit: 0"), ("raise KeyboardInterrupt", 130, "esv: interrupted")],
)
def test_a_module_that_ends_the_process_ends_in_one_line(
    tmp_path: Path, zoo: Path, features: str, body: str, code: int, message: str
) -> None:
    (zoo / PACKAGE / "ends.py").write_text(f"import esv_ray\n@esv_ray.factory\ndef make():\n    {body}\n")
    (zoo / PACKAGE / "begins.py").write_text(body)
    for module in ("ends", "begins"):
        model = python_bundle(tmp_path / "model", f"esv_zoo.{module}:make")
        job = ["--features", features, "--model", model, "--output", str(tmp_path / "out"), "--code", "esv_zoo"]
        done = esv("plan", *job, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, "after ^C click ends the terminal's line"
        assert message in done.stderr


@pytest.mark.usefixtures("zoo")
def test_ctrl_c_works_while_a_module_is_imported(tmp_path: Path, zoo: Path, features: str) -> None:
    (zoo / PACKAGE / "waits.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(600)\n")
    model = python_bundle(tmp_path / "model", "esv_zoo.waits:make")
    job = ["--features", features, "--model", model, "--output", str(tmp_path / "out"), "--code", "esv_zoo"]
    with Process(["plan", *job]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, len(err.strip().splitlines())) == (130, 1), err


def test_python_reads_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(EsvError, match=r"load_model\(\.\.\., code=\['my_models'\]\)") as caught:
        esv_ray.load_model(python_bundle(tmp_path / "model", "my_models:make"))
    assert type(caught.value) is ModelError
