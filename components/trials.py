"""trials: a space of training arguments -> the trials of a search."""

from kfp import dsl

from miniml.images import image


@dsl.component(base_image=image("gate"), install_kfp_package=False)
def trials(
    space: str,
    sampling: str,
    trials: int,
    pick_by: str,
    seed: int,
) -> list[str]:
    """Plans a search, and refuses one that cannot be made before any of its trainings begins.

    Args:
        space: JSON: training arguments, each with a list of values or {"low": 1e-5, "high": 1e-4, "log": true}.
        sampling: random draws from lists and ranges; grid tries every combination of lists.
        trials: How many to draw; a grid has as many as it has combinations.
        pick_by: The figure on validation that pick will pick by: accuracy, macro_f1 or loss.
        seed: The same seed draws the same trials.

    Returns:
        Each trial as a JSON object, for train's argument of that name. It is unnamed on purpose: kfp.local loops over
        no named output.
    """
    import json

    from miniml.progress import note
    from miniml.search.plan import SearchSettings, told

    plan = SearchSettings(space=space, sampling=sampling, trials=trials, pick_by=pick_by, seed=seed).plan()
    for number, trial in enumerate(plan, 1):
        note(f"trial {number}: {told(trial)}")
    return [json.dumps(trial) for trial in plan]
