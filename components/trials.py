"""trials: a space of training arguments -> the trials of a search."""

from components.stage import stage


@stage("gate")
def trials(
    space: str,
    sampling: str,
    trials: int,
    pick_by: str,
    stop_early: bool,
    seed: int,
    time_limit: float,
    at_once: int,
    pins: str = "",
) -> list[str]:
    """Plans a search, and refuses one that cannot be made before any of its trainings begins.

    Args:
        space: JSON: training arguments, each with a list of values or {"low": 1e-5, "high": 1e-4, "log": true}.
        sampling: random draws from lists and ranges; grid tries every combination of lists.
        trials: How many to draw; a grid has as many as it has combinations.
        pick_by: The figure on validation that pick will pick by: accuracy, macro_f1 or loss.
        stop_early: Ends a trial that is not among the better half of those so far, at a quarter and half of its steps.
        seed: The same seed draws the same trials.
        time_limit: Minutes that all trials together may train; 0 sets none.
        at_once: How many trials train beside each other.
        pins: What preflight found the models to be, for every trial to read the same.

    Returns:
        Each trial as a JSON object, for train's argument of that name, with what it has to know of the search. It is
        unnamed on purpose: kfp.local loops over no named output.
    """
    import secrets

    from miniml.progress import note
    from miniml.search.plan import SearchSettings, told, written

    settings = SearchSettings(
        space=space, sampling=sampling, trials=trials, pick_by=pick_by, stop_early=stop_early, seed=seed
    )
    plan = settings.plan()
    # What is drawn here stays in the cache with the trainings that were told it.
    contest = settings.contest(time_limit, at_once, run=secrets.token_hex(8))
    for number, trial in enumerate(plan, 1):
        note(f"trial {number}: {told(trial)}")
    return [written(trial, contest, pins) for trial in plan]
