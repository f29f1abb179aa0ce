"""A pipeline around the compiled gate and deploy, for names that were made to fool them."""

# No postponed annotations here: kfp reads those of artifacts as they stand.
from typing import Any

from kfp import components, dsl

from tests.command import ROOT

_COMPILED = ROOT / "pipelines" / "compiled" / "components"
gate = components.load_component_from_file(str(_COMPILED / "gate.yaml"))
deploy = components.load_component_from_file(str(_COMPILED / "deploy.yaml"))


@dsl.component(base_image="python", install_kfp_package=False)
def evaluated(
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    champion: dsl.Output[dsl.Artifact],
    folder: str,
    a: str,
    b: str,
    c: str,
    d: str,
    e: str,
    f: str,
    g: str,
    h: str,
    i: str,
    j: str,
) -> None:
    """Leaves what the stages before the gate would, their metadata full of the names of the data."""
    import json
    import shutil
    from pathlib import Path

    from miniml.escaping import without_placeholders

    given = Path(folder)
    shutil.copytree(given / "model", model.path)
    shutil.copyfile(given / "metrics", metrics.path)
    shutil.copyfile(given / "champion", champion.path)
    names = json.loads((given / "names.json").read_text())
    metrics.metadata.update(labels=without_placeholders(names), arguments=[a, b, c, d, e, f, g, h, i, j])


@dsl.pipeline(name="hostile")
def judged_twice(
    folder: str, a: str, b: str, c: str, d: str, e: str, f: str, g: str, h: str, i: str, j: str
) -> None:
    """One gate that must let nothing through, one that must let this model through."""
    made = evaluated(folder=folder, a=a, b=b, c=c, d=d, e=e, f=f, g=g, h=h, i=i, j=j)
    for least in (1.0, 0.5):
        rules: dict[str, Any] = {
            "min_accuracy": least,
            "options": {"min_slice_accuracy": 0.5},
            "metrics": made.outputs["metrics"],
            "champion": made.outputs["champion"],
        }
        verdict = gate(**rules)
        with dsl.If(verdict.outputs["Output"] == True, name="approved"):  # noqa: E712
            deploy(
                **rules,
                model=made.outputs["model"],
                verdict=verdict.outputs["verdict"],
                approved=verdict.outputs["Output"],
                service_name="stars",
                namespace="models",
                dry_run=True,
                run="run",
            )
