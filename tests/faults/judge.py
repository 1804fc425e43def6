"""The conditions that must hold after any fault."""

from tests.faults.scenarios import label_in, partials_in

OLD_OR_NEW = {"old", "new"}


def label_or_damage(root, scenario):
    try:
        return label_in(root, scenario)
    except Exception as error:  # noqa: BLE001 - whatever makes it unreadable is the finding
        return f"damage ({error!r})"


def fault_in_outcome(root, scenario, outcome, *, causes, removable=True):
    """Say what is wrong after "new" was written, or nothing.

    Expected: the old or the new, whole; a paragraph that names the place and one of the causes; and no
    temporary file, where the disk lets it be removed.
    """
    if outcome.crash or outcome.code:
        return f"no paragraph but {outcome.crash.splitlines()[-1:] or outcome.code}"
    if outcome.error and not (any(cause in outcome.error for cause in causes) and str(root) in outcome.error):
        return f"the place or the cause is not named: {outcome.error}"
    if outcome.error and removable and (left := partials_in(root)):
        return f"temporary files are left: {left}"
    label = label_or_damage(root, scenario)
    return "" if label in (OLD_OR_NEW if outcome.error else {"new"}) else f"{label} is there"


def fault_in_next_run(worker, root, scenario, **options):
    """Say what is wrong with the run after the fault, or nothing."""
    outcome = worker.run(scenario, root, "next", **options)
    if outcome.has_returned and label_or_damage(root, scenario) == "next":
        return ""
    return f"the next run failed: {outcome}"
