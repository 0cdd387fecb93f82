"""Small mistakes, put into the core one at a time: which of them do the tests not notice?

A mutant is the program with one operator, number, condition or `return` changed. The tests of its
module run on it in a forked process, whose import system hands out the changed module; nothing is
written into the tree. A mutant that no test minds has survived: either the tests have a hole, or
the change means nothing (those are listed below, with the reason).

    python tests/hostile/mutation.py [--jobs N] [--minutes M] [--only PART-OF-A-NAME]

The order is one of chance, but the same each time: where time ends before the mutants do, what was
tried is a sample of all modules.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import io
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UNIT = "tests/unit/"
EDGES = "tests/hostile/test_core_edges.py"
CRASH = (UNIT + "test_journal_locks.py", "tests/crash/test_damage.py",
         "tests/crash/test_file_layer.py")  # fmt: skip
DOCUMENT = (UNIT + "test_journal_document.py", UNIT + "test_journal_rows.py",
            UNIT + "test_journal_parts.py")  # fmt: skip
TESTS: dict[str, tuple[str, ...]] = {
    "ufile_cli.etag": (EDGES, UNIT + "test_etag.py"),
    "ufile_cli.multipart.plan": (EDGES, UNIT + "test_plan.py"),
    "ufile_cli.multipart.reconcile": (EDGES, UNIT + "test_reconcile.py"),
    "ufile_cli.multipart.retry": (UNIT + "test_retry.py",),
    "ufile_cli.us3.signing": (UNIT + "test_signing.py",),
    "ufile_cli.journal.parts": DOCUMENT[::-1],
    "ufile_cli.journal.partlog": (*DOCUMENT, "tests/crash/test_damage.py"),
    "ufile_cli.journal.document": (EDGES, *DOCUMENT, "tests/crash/test_damage.py"),
    "ufile_cli.journal.durable": (UNIT + "test_journal_durable.py", *CRASH),
    "ufile_cli.journal.record": (UNIT + "test_journal_record.py", *CRASH),
    "ufile_cli.journal.store": (UNIT + "test_journal_store.py", *CRASH),
}
"""Each module with the tests that ought to notice, the quickest first."""

SECONDS_A_MUTANT = 90
"""A mutant that takes longer goes round in circles: that is noticed too."""

MEMORY_A_MUTANT = 3 << 30
"""Bytes of address space: one that goes round in circles may collect things on its way."""

_ETAG, _PARTS = "ufile_cli.etag", "ufile_cli.journal.parts"
_FLAG = "the digest is the same one"
_FULL = "a full block is closed now, or when the next byte comes"
EQUIVALENT: dict[tuple[str, str, str], str] = {
    (_ETAG, "self._current = hashlib.sha1(usedforsecurity=False)", "False -> True"): _FLAG,
    (
        _ETAG,
        "final = hashlib.sha1(digests, usedforsecurity=False).digest()",
        "False -> True",
    ): _FLAG,
    (_ETAG, "if length < self._room:", "length < self._room -> length <= self._room"): _FULL,
    (
        _ETAG,
        "while len(view) >= self._room:",
        "len(view) >= self._room -> len(view) > self._room",
    ): _FULL,
    (_PARTS, "if missing > 0:", "missing > 0 -> missing >= 0"): "nothing is added to the end",
    (
        _PARTS,
        "_ABSENT, _PART_FORM, _OBJECT_FORM, _OTHER = 0, 1, 2, 3",
        "3 -> 4",
    ): "any four numbers will do that begin with 0",
    (
        "ufile_cli.journal.document",
        "plain = _plain_digests(row) if first >= len(extra) else None",
        "first >= len(extra) -> first > len(extra)",
    ): "the first row goes the long way round, to the same end",
    (
        "ufile_cli.journal.document",
        'raw = base64.b64decode(checked, altchars=b"-_", validate=True)',
        "True -> False",
    ): "of 28 characters with a strange one among them no 20 bytes are left",
    (
        "ufile_cli.journal.partlog",
        "waiting.clear()",
        "waiting.clear() -> pass",
    ): "what is confirmed a second time is the same, or was replaced",
}
"""Changes that change nothing: (module, line as it is written, change) and why."""

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: which node of which module, and how it is put in words."""

    module: str
    node: int
    line: int
    what: str


def _changed(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The mistakes that can be made at a node, each with its words."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        other = _COMPARE[type(node.ops[0])]
        made = copy.deepcopy(node)
        made.ops = [other()]
        yield f"{ast.unparse(node)}  ->  {ast.unparse(made)}", made
    elif isinstance(node, ast.BoolOp):
        flipped = copy.deepcopy(node)
        flipped.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield f"{ast.unparse(node)}  ->  {ast.unparse(flipped)}", flipped
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"{ast.unparse(node)}  ->  {ast.unparse(node.operand)}", node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        other_sum = copy.deepcopy(node)
        other_sum.op = _ARITHMETIC[type(node.op)]()
        yield f"{ast.unparse(node)}  ->  {ast.unparse(other_sum)}", other_sum
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield f"{node.value}  ->  {node.value + 1}", ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield f"{node.value}  ->  {not node.value}", ast.Constant(not node.value)
    elif isinstance(node, ast.If | ast.While) and not isinstance(
        node.test, ast.Compare | ast.BoolOp | ast.Constant
    ):
        negated = copy.deepcopy(node)
        negated.test = ast.UnaryOp(ast.Not(), negated.test)
        yield f"if {ast.unparse(node.test)}  ->  if not …", negated
    elif isinstance(node, ast.Raise) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield f"{ast.unparse(node)}  ->  pass", ast.Pass()


def _skipped(tree: ast.Module) -> set[int]:
    """Nodes that no test can be asked to know: annotations, `__all__`, imports for types, words."""
    skipped: set[int] = set()

    def skip(node: ast.AST | None) -> None:
        if node is not None:
            skipped.update(id(inner) for inner in ast.walk(node))

    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            skip(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            skip(node.returns)
            for one in node.decorator_list:
                skip(one)
            if node.name in ("__repr__", "__str__"):
                skip(node)
        elif isinstance(node, ast.arg):
            skip(node.annotation)
        elif isinstance(node, ast.ClassDef):
            for one in node.decorator_list:
                skip(one)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skip(node)
        elif isinstance(node, ast.Raise) and node.exc is not None:
            # That it is raised counts, and is a mutant; its words do not.
            skip(node.exc)
        elif isinstance(node, ast.JoinedStr):
            skip(node)
    return skipped


def mutants_of(module: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(_path(module).read_text(encoding="utf-8"))
    skipped = _skipped(tree)
    found = []
    for number, node in enumerate(ast.walk(tree)):
        if id(node) not in skipped:
            for what, _ in _changed(node):
                short = " ".join(what.split())
                found.append(Mutant(module, number, getattr(node, "lineno", 0), short[:150]))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.node))


def _path(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, made: ast.AST) -> None:
        self._target, self._made = target, made

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._target:
            return ast.copy_location(self._made, node)
        self.generic_visit(node)
        return node


def code_of(mutant: Mutant) -> Any:
    """The module's code with the mistake in it."""
    tree = ast.parse(_path(mutant.module).read_text(encoding="utf-8"))
    target = next(node for number, node in enumerate(ast.walk(tree)) if number == mutant.node)
    [(_, made)] = list(_changed(target))
    changed: Any = ast.fix_missing_locations(_Replace(target, made).visit(tree))
    return compile(changed, str(_path(mutant.module)), "exec")


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Hands out one module with a mistake in it."""

    def __init__(self, module: str, code: Any) -> None:
        self._module, self._code = module, code

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self._module:
            return None
        return importlib.util.spec_from_file_location(name, _path(name), loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


def _child(mutant: Mutant | None, tests: Sequence[str]) -> int:
    """Run the tests; 0 where they find nothing."""
    import pytest

    # A mutant that goes round in circles must not take the machine's memory meanwhile.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_A_MUTANT, MEMORY_A_MUTANT))
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
    if mutant is not None:
        sys.meta_path.insert(0, Finder(mutant.module, code_of(mutant)))
    code = 0
    plain = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
    for test in tests:  # one by one: most mutants die in the first, quick ones
        code = int(pytest.main([*plain, test]))
        if code != 0:
            break
    return code


def survives(mutant: Mutant | None, tests: Sequence[str]) -> bool:
    """Whether the tests mind nothing."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        code = 1
        try:
            code = _child(mutant, tests)
        finally:
            os._exit(code)
    deadline = time.monotonic() + SECONDS_A_MUTANT
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def main() -> int:
    """The score and the survivors; 1 where the tests fail without any mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=13.0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()

    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    # What every child needs, and what holds nothing of the program: paid for once.
    import hypothesis
    import pytest  # noqa: F401
    import requests  # noqa: F401

    hypothesis.settings.register_profile(
        "mutation", max_examples=20, deadline=None, derandomize=True, database=None
    )
    hypothesis.settings.load_profile("mutation")

    chosen = {name: tests for name, tests in TESTS.items() if options.only in name}
    for tests in sorted(set(chosen.values())):
        if not survives(None, tests):
            print(f"the tests fail without any mistake: {' '.join(tests)}")
            return 1
    queue = [
        mutant
        for name in chosen
        for mutant in mutants_of(name)
        if (mutant.module, _line(mutant), mutant.what) not in EQUIVALENT
    ]
    total = Counter(mutant.module for mutant in queue)
    random.Random(1).shuffle(queue)
    deadline = time.monotonic() + options.minutes * 60
    tried: Counter[str] = Counter()
    left: list[Mutant] = []

    def judge(mutant: Mutant) -> None:
        if time.monotonic() > deadline:
            return
        alive = survives(mutant, chosen[mutant.module])
        tried[mutant.module] += 1
        if alive:
            left.append(mutant)
            print(f"survived  {mutant.module}:{mutant.line}  {mutant.what}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(judge, queue))

    lives = Counter(mutant.module for mutant in left)
    print(f"\n{'module':34} mutants  tried  killed")
    for name in chosen:
        killed = tried[name] - lives[name]
        share = f"{killed / tried[name]:.0%}" if tried[name] else "-"
        print(f"{name:34} {total[name]:7} {tried[name]:6}  {killed} ({share})")
    every = sum(tried.values())
    print(f"score: {(every - len(left)) / max(1, every):.1%} of {every} (of {len(queue)})")
    return 0


def _line(mutant: Mutant) -> str:
    lines = _path(mutant.module).read_text(encoding="utf-8").splitlines()
    return lines[mutant.line - 1].strip()


if __name__ == "__main__":
    sys.exit(main())
