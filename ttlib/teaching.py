"""What the chapters need to teach: source shown from the module, exercises; progress is passed on.

What a reader sees is what runs: `show_source` displays a function from the module, so no
chapter holds a copy that could differ from it.
"""

import inspect
import textwrap

from ttlib.progress import progress

__all__ = ["exercise", "progress", "show_source"]


def show_source(*objects):
    """Display the source of functions, methods or classes, each under the name of its file.

    Raises:
        TypeError: something has no Python source, such as a built-in function.
    """
    from IPython.display import Markdown, display

    display(Markdown("\n\n".join(_source(thing) for thing in objects)))


def _source(thing):
    thing = inspect.unwrap(thing.fget if isinstance(thing, property) else thing)
    try:
        lines, _ = inspect.getsourcelines(thing)
    except (TypeError, OSError):
        raise TypeError(f"{thing!r} has no Python source to show; give a function or class of ttlib.") from None
    file = thing.__module__.replace(".", "/") + ".py"
    fence = "`" * 4  # a docstring may hold three
    return f"`{file}`\n\n{fence}python\n{textwrap.dedent(''.join(lines)).rstrip()}\n{fence}"


def exercise(check):
    """Tell whether an exercise is solved. Prints; never raises, so that a notebook runs to its end.

    Args:
        check: a function without arguments that tests what the reader wrote. It asserts with a
            sentence that helps (`assert abs(error) <= width, "the error is wider than a bin"`),
            or returns False or a sentence where the exercise is not solved. Whatever else it
            raises counts as not solved too.
    """
    print(_reason(check) or "Solved.")


def _reason(check):
    """Why an exercise is not solved, one sentence; "" where it is."""
    try:
        answer = check()
    except NotImplementedError as error:
        reason = str(error) or "nothing is written yet"
    except AssertionError as error:
        reason = str(error) or "the result is not right yet"
    except Exception as error:
        reason = f"your code stops with {type(error).__name__}: {error}"
    else:
        if answer is not False and not isinstance(answer, str):
            return ""
        reason = answer or "the result is not right yet"
    reason = reason.strip().rstrip(".")
    return f"Not solved yet: {reason}. Change the cell and run it again; the solution is folded below."
