"""What is wrong with a script beyond its single fields: names, parents, cycles, children, expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from config.checks.access import mapping
from config.checks.schema_errors import fragment
from config.expressions.api import lint
from config.expressions.types import ANY, Shape, known, record
from config.model.types import nearest
from config.problems import ERROR, WARNING, Severity
from config.source.nodes import Path, Source
from proxy.simulator.script.model import NAME, NOTHING
from proxy.simulator.script.schema import ScriptFile, StepBlock, WorkflowBlock

CHUNK_KINDS = ("texts", "text", "of", "count")
OUTPUT_KINDS = ("output", "output_of", "output_size")


def check(source: Source, file: ScriptFile) -> None:
    """Note in `source` what is wrong."""
    if not file.workflows:
        source.add(source.key_at(("workflows",)), "empty", "there are no workflows", "write one")
    for name, workflow in file.workflows.items():
        _name(source, ("workflows", name), name)
        _workflow(source, ("workflows", name), workflow, list(file.workflows))
    runs = {name: [child for _, child in _children(workflow)] for name, workflow in file.workflows.items()}
    if cycle := find_cycle(runs):
        at = source.key_at(("workflows", cycle[0]))
        message = f"the workflows run each other without end: {' → '.join(cycle)}"
        source.add(at, "cycle", message, "take one of the children away")


def check_parts(source: Source) -> None:
    """Note what is wrong in a script that has blocks which cannot be read: in the others, one by one.

    Cycles are not checked here: that needs all steps of a workflow, or all workflows.
    """
    workflows = mapping(source.data, "workflows")
    for name, written in workflows.items():
        path: Path = ("workflows", name)
        whole = fragment(written, WorkflowBlock)
        if isinstance(whole, WorkflowBlock):
            _workflow(source, path, whole, list(workflows))
        else:
            _steps(source, path, mapping(written, "steps"), list(workflows))


def _steps(source: Source, path: Path, written: Mapping[str, Any], names: list[str]) -> None:
    """The steps that can be read, of a workflow that cannot."""
    blocks = {name: fragment(step, StepBlock) for name, step in written.items()}
    steps = {name: step for name, step in blocks.items() if isinstance(step, StepBlock)}
    parents = {name: list(steps[name].parents or ()) if name in steps else [] for name in written}
    for name, step in steps.items():
        _parents(source, (*path, "steps", name), name, parents)
        _step(source, (*path, "steps", name), step)
        for index, child in enumerate(step.children):
            _child(source, (*path, "steps", name, "children", index, "workflow"), child.workflow, names)


def _workflow(source: Source, path: Path, workflow: WorkflowBlock, names: list[str]) -> None:
    if not workflow.steps:
        source.add(source.key_at((*path, "steps")), "empty", "the workflow has no steps", "write one")
    parents = {name: list(step.parents or ()) for name, step in workflow.steps.items()}
    lowered: dict[str, str] = {}
    for name, step in workflow.steps.items():
        _name(source, (*path, "steps", name), name)
        if name.lower() in lowered:
            message = (
                f"`{name}` and `{lowered[name.lower()]}` are one name in lower case, as the SDK writes it"
            )
            source.add(source.key_at((*path, "steps", name)), "duplicate-step", message, "rename one")
        lowered[name.lower()] = name
        _parents(source, (*path, "steps", name), name, parents)
        _step(source, (*path, "steps", name), step)
    if cycle := find_cycle({name: [one for one in of if one in parents] for name, of in parents.items()}):
        at = source.at((*path, "steps", cycle[0], "parents"))
        source.add(at, "cycle", f"the steps wait for each other: {' → '.join(cycle)}", "take one parent away")
    for key, last in (("on_failure", workflow.on_failure), ("on_success", workflow.on_success)):
        if last is not None:
            _last_step(source, (*path, key), last)
    for at_path, child in _children(workflow):
        _child(source, (*path, *at_path), child, names)


def _child(source: Source, path: Path, child: str, names: list[str]) -> None:
    if child not in names:
        hint = nearest(child, names) or f"known here: {', '.join(names)}"
        source.add(source.at(path), "unknown-workflow", f"there is no workflow `{child}`", hint)


def _parents(source: Source, path: Path, name: str, parents: Mapping[str, Sequence[str]]) -> None:
    seen = set()
    for index, parent in enumerate(parents[name]):
        at = source.at((*path, "parents", index))
        if parent not in parents:
            hint = nearest(parent, list(parents)) or f"known here: {', '.join(parents)}"
            source.add(at, "unknown-parent", f"`{name}` has a parent `{parent}` that is no step", hint)
        elif parent in seen:
            source.add(at, "duplicate-parent", f"the parent `{parent}` is here twice", "keep one")
        seen.add(parent)


def _name(source: Source, path: Path, name: str) -> None:
    if not NAME.fullmatch(name):
        message = f"Hatchet refuses the name `{name}`"
        source.add(source.key_at(path), "name", message, f"it must match the regex ^{NAME.pattern}$")


def _last_step(source: Source, path: Path, step: StepBlock) -> None:
    """The step on failure or on success."""
    if step.parents:
        at, key = source.key_at((*path, "parents")), str(path[-1])
        message = f"the step {key.replace('_', ' ')} has no parents"
        source.add(at, key.replace("_", "-"), message, "Hatchet runs it after all others")
    _step(source, path, step)


def _step(source: Source, path: Path, step: StepBlock) -> None:
    _one_of(source, path, [kind for kind in OUTPUT_KINDS if getattr(step, kind) not in (None, NOTHING)])
    _one_of(source, path, [kind for kind in ("skip", "skip_if") if getattr(step, kind)])
    if step.backoff is not None and not step.retries:
        at = source.key_at((*path, "backoff"))
        source.add(at, "no-retries", "a backoff without retries does nothing", "add `retries`", WARNING)
    if step.chunks is not None:
        _chunks(source, (*path, "chunks"), step)
    fields = _scope(step)
    for inner in ("output_of", "skip_if", "cancel_if"):
        _expression(source, (*path, inner), getattr(step, inner), fields)
    for index, child in enumerate(step.children):
        _one_of(
            source,
            (*path, "children", index),
            [k for k in ("input", "input_of") if getattr(child, k) is not None],
        )
        _expression(source, (*path, "children", index, "input_of"), child.input_of, fields)


def _chunks(source: Source, path: Path, step: StepBlock) -> None:
    chunks = step.chunks
    assert chunks is not None
    kinds = [kind for kind in CHUNK_KINDS if getattr(chunks, kind) is not None]
    if not kinds:
        message = "`chunks` does not define what is streamed"
        source.add(source.key_at(path), "missing-key", message, f"write one of {', '.join(CHUNK_KINDS)}")
    _one_of(source, path, kinds)
    if chunks.size is not None and chunks.count is None:
        source.add(source.key_at((*path, "size")), "size", "`size` goes with `count`", "write `count: 1`")
    _expression(source, (*path, "of"), chunks.of, _scope(step))
    for index, chunk in enumerate(chunks.texts or ()):
        if sum(one is not None for one in (chunk.text, chunk.hex, chunk.size)) != 1:
            at = source.at((*path, "texts", index))
            message = "a chunk is a text, or has either `hex` or `size`"
            source.add(at, "chunk", message, 'like {hex: "fffe00"}')


def _one_of(source: Source, path: Path, kinds: Sequence[str]) -> None:
    if len(kinds) > 1:
        at = source.key_at((*path, kinds[1]))
        message = f"`{kinds[1]}` and `{kinds[0]}` exclude each other"
        source.add(at, "contradiction", message, "keep one")


def _expression(source: Source, path: Path, text: str | None, fields: Shape) -> None:
    for diagnostic in lint(text, fields) if text is not None else ():
        at = source.inside(path, diagnostic.position)
        severity: Severity = WARNING if diagnostic.severity == WARNING else ERROR
        source.add(at, diagnostic.code, diagnostic.message, diagnostic.hint or "", severity)


def _scope(step: StepBlock) -> Shape:
    parents = dict.fromkeys(step.parents or (), ANY)
    return record(
        input=ANY,
        parents=record(**parents) if parents else ANY,
        children=ANY,
        metadata=Shape("object", nullable=False),
        attempt=known("number"),
        run_id=known("string"),
    )


def _children(workflow: WorkflowBlock) -> Iterator[tuple[Path, str]]:
    for name, step in workflow.steps.items():
        for index, child in enumerate(step.children):
            yield ("steps", name, "children", index, "workflow"), child.workflow
    for key, last in (("on_failure", workflow.on_failure), ("on_success", workflow.on_success)):
        for index, child in enumerate(last.children if last else ()):
            yield (key, "children", index, "workflow"), child.workflow


def find_cycle(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """A way that comes back to where it began, both ends named; empty where there is none."""
    done: set[str] = set()
    for start in edges:
        way: list[str] = []
        ahead = [iter([start])]
        while ahead:
            name = next(ahead[-1], None)
            if name is None:
                ahead.pop()
                if way:
                    done.add(way.pop())
            elif name in way:
                return [*way[way.index(name) :], name]
            elif name not in done:
                way.append(name)
                ahead.append(iter(edges.get(name, ())))
    return []
