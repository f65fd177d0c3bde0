"""Choose the classes of a video to show, from what a user gives."""

from __future__ import annotations

from collections.abc import Sequence

from esv_ray.errors import SpecError
from esv_ray.input.class_names import nearest_names
from esv_ray.show.text import printable

_NAMED = 3  # classes in an error


def chosen_classes(
    classes: Sequence[str | int], kept: Sequence[int], label: int | None, predicted: int, names: Sequence[str] | None
) -> list[int]:
    """Return the ids of the classes to show, each once.

    Args:
        classes: names, numbers or roles (`label`, `predicted`); none: the label and the predicted class.
        kept: ids of the classes whose ESVs of the video are kept.
        label, predicted: of the video.
        names: C names, or None.

    Raises:
        SpecError: there is no such class, or its ESVs are not kept.
    """
    if not classes:
        usual = [class_id for class_id in dict.fromkeys((label, predicted)) if class_id in kept]
        return [class_id for class_id in usual if class_id is not None] or list(kept)
    chosen = []
    for given in classes:
        ids = _ids(given, label, predicted, names)
        if len(ids) != 1 or ids[0] not in kept:
            raise SpecError(_not_kept(given, ids, kept, names))
        chosen.append(ids[0])
    return list(dict.fromkeys(chosen))


def _not_kept(given: str | int, ids: Sequence[int], kept: Sequence[int], names: Sequence[str] | None) -> str:
    """Return what is wrong with a class to show: it has no ESVs, or there is none of this name."""
    near = nearest_names(str(given), names or ())
    if not ids and near:
        return f"class: there is no class {quoted(given)}; did you mean {' or '.join(map(quoted, near))}?"
    known = ", ".join(str(each) if not names else f"{each} {printable(names[each])}" for each in kept[:_NAMED])
    more = ", ..." if len(kept) > _NAMED else ""
    advice = "`classes` of the job decides which are kept"
    if names and len(ids) == 1 and ids[0] < len(names):
        advice = f"to keep it, run esv attribute with --set 'classes=[label,predicted,{ids[0]}]' and another --output"
    return f"class: expected one whose ESVs of this video are kept ({known}{more}), got {quoted(given)}; {advice}"


def _ids(given: str | int, label: int | None, predicted: int, names: Sequence[str] | None) -> list[int]:
    """Return the ids that a text may mean: a role, a class name, or a number."""
    if isinstance(given, int):
        return [given]
    if given == "label":
        return [] if label is None else [label]
    if given == "predicted":
        return [predicted]
    ids = [class_id for class_id, name in enumerate(names or ()) if name == given]
    return ids or ([int(given)] if given.isascii() and given.isdigit() and len(given) < 10 else [])


def quoted(text: str | int) -> str:
    """Return a text or a number in quotes, short, for an error."""
    return repr(text)[:100]
