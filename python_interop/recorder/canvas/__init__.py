"""What Celery's canvas makes of signatures: nothing is sent, so it needs no broker."""
from . import changed, sent, worker
from .app import recording

FAMILIES = {
    'join': sent.joins,
    'chain': sent.chains,
    'freeze': sent.freezes,
    'apply': sent.applies,
    'link': changed.changes,
    'stamp': changed.stamps,
    'follow': worker.follows,
    'chord_error': worker.chord_errors,
    'replace': worker.replaces,
}


def golden_files():
    """The cases by the name of their file."""
    with recording():
        return {f'canvas/{name}': list(cases()) for name, cases in FAMILIES.items()}
