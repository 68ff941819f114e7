"""Every error class of phantomset and the exit code that it ends a command with.

::

    PhantomsetError             1   a bug of ours, unless a subclass says otherwise
    ├── InputError              2   the input, the recipe or the command line is wrong
    │   ├── RecipeError         2   one message a line, each with file, line and column
    │   ├── SourceError         2   images or labels cannot be read, or do not fit each other
    │   ├── SplitError          2   too few patients for the parts that were asked for
    │   ├── ModelError          2   a family cannot train on this data, or a checkpoint does not fit
    │   ├── ResidualHit         2   a text of the source was found in what was written
    │   ├── WorkspaceError      2   a folder cannot be made, written or locked
    │   └── ReleaseError        2   a release is missing, damaged, or its name is taken
    └── Interrupted           130   stopped by a person or an orchestrator; the same command resumes it

A blocked set is no error: FAIL (3), INCONCLUSIVE (4) and "waits for a sign-off" (5) are outcomes.

Messages say what, where, found and expected, and what to do. They never carry a value that came from
an image's header, a label table or a file name of the source.
"""

OK, BUG, BAD_INPUT, FAILED, INCONCLUSIVE, AWAITS_SIGN_OFF, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


class PhantomsetError(Exception):
    """Root of the tree."""

    exit_code = BUG


class InputError(PhantomsetError):
    """Something that the user can mend."""

    exit_code = BAD_INPUT


class RecipeError(InputError):
    """All that is wrong with a recipe, one message a line."""


class SourceError(InputError):
    """Images or labels that cannot be read, or do not fit each other."""


class SplitError(InputError):
    """Too few patients for the parts that were asked for."""


class ModelError(InputError):
    """A family that cannot train on this data, or a checkpoint that does not fit."""


class ResidualHit(InputError):  # noqa: N818 - the finding's own name, as its reason code
    """A text of the source that was found in what was written, or a scan that is blind."""


class WorkspaceError(InputError):
    """A folder that cannot be made, written or locked."""


class ReleaseError(InputError):
    """A release that is missing or damaged, or whose name is taken."""


class Interrupted(PhantomsetError):  # noqa: N818 - an outcome, not a fault
    """Stopped from outside; the same command resumes."""

    exit_code = INTERRUPTED
