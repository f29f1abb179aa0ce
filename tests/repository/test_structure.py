"""What the repository promises of itself: fresh compiled YAML, import rules, light compiling."""

from __future__ import annotations

import ast
import builtins
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from miniml import __version__
from miniml.images import STAGES
from miniml.pipeline.compiled import as_run_here, stages_in_order
from tests.command import ROOT, tool

PIPELINES = ("text_classification", "hyperparameter_search")
PACKAGES = ("miniml", "components", "pipelines", "serving")
INIT_NAMES = ("__version__", "__all__")


def test_the_committed_yaml_is_what_the_code_compiles_to(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pipelines", "compile", "--folder", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.yaml")}
    committed = ROOT / "pipelines" / "compiled"
    assert fresh == {path.relative_to(committed): path.read_text() for path in committed.rglob("*.yaml")}
    modules = {path.stem for path in (ROOT / "components").glob("*.py")} - {"__init__", "build", "stage"}
    assert {path.stem for path in fresh} == {*modules, *PIPELINES}


@pytest.mark.parametrize("module", PIPELINES)
def test_every_image_carries_the_version(module: str) -> None:
    spec = next(yaml.safe_load_all((ROOT / "pipelines" / "compiled" / f"{module}.yaml").read_text()))
    executors = spec["deploymentSpec"]["executors"]
    images = {executor["container"]["image"] for executor in executors.values()}
    assert images == {f"localhost/miniml-{stage}:{__version__}" for stage in STAGES}


def test_a_person_writes_the_version_in_one_place() -> None:
    """`make compile` writes the others, which the tests above and those of the manifests hold fresh."""
    folders = ("miniml", "components", "pipelines", "serving", "manifests", "benchmarks", "docs", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix != ".pyc"]
    files += [ROOT / name for name in ("Makefile", "README.md", "CONTRIBUTING.md", "pyproject.toml")]
    version = re.compile(rf"(?<![\d.]){re.escape(__version__)}\b")
    said = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.is_file() and version.search(path.read_text(errors="replace"))
    }
    compiled = {path for path in said if path.startswith("pipelines/compiled/")}
    assert said - compiled == {"miniml/__init__.py", "manifests/base/runtime.yaml"}


@pytest.mark.parametrize("module", PIPELINES)
def test_compiling_needs_no_heavy_library(module: str) -> None:
    script = (
        f"import sys; from pipelines.{module} import {module}; "
        "print(sorted({'torch', 'transformers', 'datasets', 'kserve'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["run", "--help"], ["completion", "bash"]])
def test_the_command_says_what_it_can_do_without_a_client_of_kubeflow_or_kubernetes(words: list[str]) -> None:
    script = (
        "import atexit, sys; from miniml.cli.entry import main; sys.argv[0] = 'miniml'; "
        "atexit.register(lambda: print(sorted({'kfp', 'kubernetes'} & sys.modules.keys()))); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("folder", "statement"),
    [
        ("miniml", "import kfp"),
        ("miniml", "from pipelines import cli"),
        ("miniml", "import serving"),
        ("miniml", "from miniml.store import repository"),
        ("miniml", "import minio"),
        ("components", "import pipelines"),
        ("components", "import torch"),
        ("pipelines", "import serving"),
        ("serving", "import components"),
    ],
)
def test_an_import_against_the_rules_is_refused_with_a_reason(folder: str, statement: str) -> None:
    # Given on standard input under a name in the folder, so that nothing is written there.
    words = [sys.executable, "-m", "ruff", "check", "--select=TID", "--no-cache"]
    name = f"--stdin-filename={ROOT / folder / 'planted.py'}"
    done = subprocess.run(
        [*words, name, "-"], input=statement + "\n", cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "TID25" in done.stdout


@pytest.fixture(scope="module")
def copy_of_the_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(
    ("module", "statement", "rule"),
    [
        ("miniml/store/planted.py", "from miniml.sources import bucket", "No room, and no file"),
        (
            "miniml/settings/planted.py",
            "def late():\n    from miniml.gate import rules",
            "No room, and no file",
        ),
        ("miniml/evaluation/planted.py", "import minio", "Only the store speaks S3"),
        ("miniml/gate/planted.py", "from miniml.model import engines", "has no torch in its image"),
        ("miniml/preflight/planted.py", "def late():\n    import transformers", "has no torch in its image"),
    ],
)
def test_an_import_by_way_of_other_rooms_is_refused_with_a_reason(
    copy_of_the_code: Path, module: str, statement: str, rule: str
) -> None:
    command = tool("lint-imports")
    assert command, "import-linter is not installed (extra dev)"
    planted = copy_of_the_code / module
    planted.write_text(statement + "\n")
    done = subprocess.run(
        [command, "--no-cache"],
        cwd=copy_of_the_code,
        env={**os.environ, "PYTHONPATH": str(copy_of_the_code)},
        capture_output=True,
        text=True,
    )
    planted.unlink()
    assert done.returncode == 1, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [broken] = [contract["name"] for contract in contracts if f"{contract['name']} BROKEN" in said]
    assert rule in broken


@pytest.mark.parametrize("package", PACKAGES)
def test_no_init_file_holds_an_implementation(package: str) -> None:
    """Whoever imports a module runs the `__init__` of its folder: what that imports, every stage needs."""
    # The public names of miniml itself come when they are asked for, which needs a function.
    for path in set((ROOT / package).rglob("__init__.py")) - {ROOT / "miniml" / "__init__.py"}:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            is_name = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in INIT_NAMES
            imports = isinstance(node, ast.Import | ast.ImportFrom)
            assert is_docstring or is_name or imports, f"{path.relative_to(ROOT)}:{node.lineno}"


CODE = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
CLASSES = {
    node.name: node for tree in CODE.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
}
MANY_ARGUMENTS = 3
"""A function with so many arguments, apart from `self`, describes them."""
UNDOCUMENTED = {"ABC", "Protocol", "Exception", "ValueError", "StrEnum", "NamedTuple", "Generic"}
"""Bases that have no methods of their own to take a docstring from."""


def inherits(owner: ast.ClassDef | None, method: str) -> bool:
    """Whether a method says what it does in a class that `owner` is made from, ours or a library's."""
    for base in owner.bases if owner else ():
        name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        above = CLASSES.get(name)
        if above is None and name not in UNDOCUMENTED:
            return True
        own = [node.name for node in above.body if isinstance(node, ast.FunctionDef)] if above else []
        if method in own or inherits(above, method):
            return True
    return False


def without_a_sentence(tree: ast.Module) -> Iterator[str]:
    """The public functions, classes and methods whose docstring does not begin with one; and the module, likewise."""
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    if not is_sentence(ast.get_docstring(tree)):
        yield "the module"
    inside: list[tuple[ast.ClassDef | None, ast.AST]] = [(None, node) for node in tree.body]
    for owner, node in inside:
        if isinstance(node, definitions) and not node.name.startswith("_") and not is_overload(node):
            text = ast.get_docstring(node)
            if not is_sentence(text) and (text or not inherits(owner, node.name)):
                yield f"{node.name}, line {node.lineno}"
            if isinstance(node, ast.ClassDef):
                inside += [(node, part) for part in node.body]


def without_arguments(tree: ast.Module) -> Iterator[str]:
    """The public functions of three or more arguments that have a docstring without `Args:`."""
    inside: list[tuple[bool, ast.AST]] = [(False, node) for node in tree.body]
    for in_class, node in inside:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            inside += [(True, part) for part in node.body]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            taken = names[1:] if in_class and names[0] in ("self", "cls") else names
            text = ast.get_docstring(node)
            if len(taken) >= MANY_ARGUMENTS and text and "\nArgs:\n" not in text:
                yield f"{node.name}, line {node.lineno}"


def is_overload(node: ast.AST) -> bool:
    """Whether it only types one way to call the function of the same name, which has the docstring."""
    return "overload" in [ast.unparse(each) for each in getattr(node, "decorator_list", [])]


def is_sentence(docstring: str | None) -> bool:
    """Whether its first paragraph begins with a capital letter, a digit or code, and ends. A verb nobody can check."""
    first = (docstring or "").split("\n\n")[0].strip()
    return bool(re.match(r"[A-Z0-9`\"']", first)) and first.endswith((".", ":", "?"))


def wrong_in(package: str, check: Callable[[ast.Module], Iterator[str]]) -> dict[str, list[str]]:
    """What `check` finds in a package, by file."""
    in_package = {path: tree for path, tree in CODE.items() if path.startswith(f"{package}/")}
    return {path: found for path, tree in in_package.items() if (found := list(check(tree)))}


@pytest.mark.parametrize("package", PACKAGES)
def test_whatever_is_public_says_in_a_sentence_what_it_does(package: str) -> None:
    assert not wrong_in(package, without_a_sentence)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_function_of_several_arguments_describes_them(package: str) -> None:
    """One without a docstring has that of the method that it overrides: the test above sees to it."""
    assert not wrong_in(package, without_arguments)


DESCRIPTION = re.compile(r" +\*{0,2}([\w.]+): ")
"""A line of a docstring's section that names what it goes on to describe."""


def described(docstring: str | None, section: str) -> list[str]:
    """The names that a section of a docstring describes, each at the start of a line."""
    lines = (docstring or "").partition(f"\n{section}:\n")[2].partition("\n\n")[0].splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    found = [DESCRIPTION.match(line) for line in lines if not line[margin:].startswith(" ")]
    return [match[1] for match in found if match]


def functions_of(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def taken_by(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The names of a function's parameters."""
    return {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}


def test_a_docstring_describes_no_argument_that_its_function_does_not_take() -> None:
    assert described("Adds.\n\nArgs:\n    a: One.\n        b: it goes on.\n    c: Two.", "Args") == ["a", "c"]
    wrong = [
        f"{path}:{node.lineno} {name}"
        for path, tree in CODE.items()
        for node in functions_of(tree)
        for name in described(ast.get_docstring(node), "Args")
        if name not in taken_by(node)
    ]
    assert not wrong


def test_a_docstring_says_that_its_function_raises_only_what_there_is() -> None:
    # A library's class has the name of its module before its own: argparse.ArgumentTypeError.
    imports = [
        node
        for tree in CODE.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    known = {(each.asname or each.name).partition(".")[0] for node in imports for each in node.names}
    known |= CLASSES.keys() | set(dir(builtins))
    wrong = [
        f"{path}:{node.lineno} {name}"
        for path, tree in CODE.items()
        for node in functions_of(tree)
        for name in described(ast.get_docstring(node), "Raises")
        if name.partition(".")[0] not in known
    ]
    assert not wrong


def test_no_comment_tears_a_statement_apart() -> None:
    """A comment behind a long line makes the formatter break the line around it: it belongs above the statement."""
    torn = re.compile(r"^\s*[])}]+( as \w+)?:?  # (?!noqa|type:|fmt:)", re.MULTILINE)
    for folder in (*PACKAGES, "benchmarks", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not torn.search(path.read_text(encoding="utf-8")), path.relative_to(ROOT)


@pytest.mark.parametrize("module", PIPELINES)
def test_a_pod_that_trains_is_retried_for_as_long_as_a_training_lasts(module: str) -> None:
    spec = next(yaml.safe_load_all((ROOT / "pipelines" / "compiled" / f"{module}.yaml").read_text()))
    dags = [spec["root"]["dag"], *(each["dag"] for each in spec["components"].values() if "dag" in each)]
    tasks = {name: task for dag in dags for name, task in dag["tasks"].items()}
    policies = {name: task["retryPolicy"] for name, task in tasks.items() if "retryPolicy" in task}
    assert policies.keys() == {"train", "compress"}
    for policy in policies.values():
        # Argo counts it from the start of the first pod.
        assert (policy["maxRetryCount"], policy["backoffMaxDuration"]) == (2, f"{30 * 24 * 3600}s")


@pytest.mark.parametrize("module", PIPELINES)
def test_on_a_laptop_nothing_is_retried(module: str) -> None:
    compiled = (ROOT / "pipelines" / "compiled" / f"{module}.yaml").read_text()
    assert "retryPolicy" not in as_run_here(compiled)
    assert stages_in_order(as_run_here(compiled)) == stages_in_order(compiled)


@pytest.mark.parametrize("module", PIPELINES)
def test_every_step_asks_to_run_as_somebody_who_is_not_root(module: str) -> None:
    """Pod Security `restricted` refuses a step of KFP 2.17 only for want of runAsNonRoot (issue 18, section 4)."""
    [spec, platform] = yaml.safe_load_all((ROOT / "pipelines" / "compiled" / f"{module}.yaml").read_text())
    asked = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert asked.keys() == spec["deploymentSpec"]["executors"].keys()
    assert all(executor["securityContext"] == {"runAsNonRoot": True} for executor in asked.values())


def test_no_test_bounds_the_clock_by_itself() -> None:
    """How long anything may take is for tests/patience.py to say: not less than ten times what the slowest needs."""
    clocks = ("time.monotonic", "time.perf_counter", "time.time")
    # tests/e2e/cluster.py has a patience of its own, which the environment sets.
    for path in set((ROOT / "tests").rglob("*.py")) - {
        ROOT / "tests/patience.py",
        ROOT / "tests/e2e/cluster.py",
    }:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                limits = [word.value for word in node.keywords if word.arg == "timeout"]
                bounds = called in clocks or any(isinstance(limit, ast.Constant) for limit in limits)
                # A dataclass of timeouts is an argument of what is tried, not a limit of the test.
                assert not bounds or called == "replace", f"{path.name}:{node.lineno} bounds the clock"
