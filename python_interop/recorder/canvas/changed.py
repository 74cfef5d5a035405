"""What changes a signature in place."""
from celery.canvas import StampingVisitor
from celery.canvas import _chain as nested_chain
from celery.canvas import chain, group

from .app import attempt, from_json, frozen, notes, plain, settings
from .signatures import ALL, FEW, linked, pair, si, t, two, with_options

ON_HEADERS = {'task_allow_error_cb_on_chord_header': True}

# Where callbacks go to.
LINKED = (
    *FEW, 'task_link', 'task_link_single', 'task_link_error', 'chain_empty', 'chain_link_single', 'group_nested',
    'group_of_linked', 'group_one', 'chord_body_chain_led_by_group', 'chord_body_chord_body_chord',
    'chord_body_group_of_chords', 'chord_header_of_linked', 'chord_without_body', 'chord_link_error', 'starmap',
)


def methods():
    """Names of what is called, with its arguments and the settings that matter."""
    callback, errback = plain(t('cb', 1)), plain(t('eb'))
    yield 'link', 'link', [callback], {}, {}
    yield 'link_error', 'link_error', [errback], {}, {}
    yield 'link_error_on_headers', 'link_error', [errback], {}, ON_HEADERS
    yield 'set_immutable', 'set_immutable', [True], {}, {}
    yield 'clone', 'clone', [], {}, {}
    yield 'clone_with', 'clone', [[7], {'k': 8}], {'queue': 'given', 'group_id': 'G', 'task_id': 'I'}, {}


def special():
    for name in ('chain_two', 'chain_links', 'chain_link_on_linked', 'chain_group_middle_with_links',
                 'chain_nested_with_links'):
        yield f'{name}/unchain_tasks', ALL[name](), 'unchain_tasks', [], {}, {}
    yield 'chunks/group', ALL['chunks'](), 'group', [], {}, {}
    again = plain(t('cb', 1))
    for name, sig in (('task', t('a')), ('chain', chain(t('a'), t('b'))), ('chord', pair())):
        yield f'{name}/link_same', linked(sig, link=[again]), 'link', [again], {}, {}
    for name in ('task', 'chain_two', 'group_two', 'chord_two', 'chord_body_group'):
        yield f'{name}/link_group', ALL[name](), 'link', [plain(two())], {}, {}
        yield f'{name}/set', ALL[name](), 'set', [], {'immutable': True, 'queue': 'given', 'priority': None}, {}
    yield 'task/link_same_single', linked(t('a'), link=again), 'link', [again], {}, {}
    yield 'group/link_immutable', two(), 'link', [plain(si('cb', 1))], {}, {}


def changes():
    for name in LINKED:
        for kind, method, args, kwargs, conf in methods():
            yield change(f'{name}/{kind}', plain(ALL[name]()), method, args, kwargs, conf)
    for name, sig, method, args, kwargs, conf in special():
        yield change(name, plain(sig), method, args, kwargs, conf)


def change(name, signature, method, args, kwargs, conf):
    notes.begin()
    # `chunks` is read as the plain task that it is on the wire; here it is asked for its group.
    sig = ALL['chunks']() if method == 'group' else from_json(signature)
    given = [from_json(arg) if isinstance(arg, dict) and 'task' in arg else arg for arg in args]
    with settings(conf):
        returned, raises = attempt(lambda: getattr(sig, method)(*given, **kwargs))
    return {
        'name': name, 'signature': signature, 'method': method, 'args': args, 'kwargs': kwargs, 'conf': conf,
        'after': plain(sig), 'returned': plain(returned), 'raises': raises,
    }


class Visitor(StampingVisitor):
    """Answers as it is told, by the name of the hook."""

    def __init__(self, answers):
        self.answers = answers

    def answer(self, hook):
        # A copy: Celery writes into it.
        return plain(self.answers.get(hook, {}))

    def on_signature(self, sig, **headers):
        return self.answer('on_signature')

    def on_group_start(self, group, **headers):
        return self.answer('on_group_start')

    def on_chain_start(self, chain, **headers):
        return self.answer('on_chain_start')

    def on_chord_header_start(self, sig, **headers):
        # Celery's own, which makes a group of the header and asks on_group_start; with an answer more.
        return {**super().on_chord_header_start(sig, **headers), **self.answer('on_chord_header_start')}

    def on_chord_body(self, sig, **headers):
        return self.answer('on_chord_body')

    def on_callback(self, callback, **headers):
        return self.answer('on_callback')

    def on_errback(self, errback, **headers):
        return self.answer('on_errback')


VISITORS = {
    'signature': {'on_signature': {'seen': 1}},
    'signature_same_name': {'on_signature': {'foo': 'visitor'}},
    'signature_lists': {'on_signature': {'foo': ['visitor'], 'list': [1]}},
    'signature_names_fewer': {'on_signature': {'seen': 1, 'priority': 3, 'stamped_headers': ['seen']}},
    'each': {
        'on_signature': {'by_sig': 1}, 'on_group_start': {'by_group': 1}, 'on_chain_start': {'by_chain': 1},
        'on_chord_header_start': {'by_header': 1}, 'on_chord_body': {'by_body': 1}, 'on_callback': {'by_callback': 1},
        'on_errback': {'by_errback': 1},
    },
}


def stamped_canvases():
    both = {'link': [t('cb'), t('cb', 2)], 'link_error': [t('eb')]}
    return {
        'task': t('a'),
        'task_linked': linked(t('a'), **both),
        'task_link_single': linked(t('a'), link=t('cb')),
        'task_linked_deep': linked(t('a'), link=[linked(t('cb'), link=[t('deep')]), chain(t('b'), t('c')), two(), pair()]),
        'task_stamped': with_options(t('a'), foo='old', other=1, stamped_headers=['foo', 'other']),
        'task_stamped_linked': linked(with_options(t('a'), foo='old', stamped_headers=['foo']), **both),
        'task_with_option_of_the_name': with_options(t('a'), foo='an option'),
        'task_frozen': frozen(t('a')),
        'chain': chain(t('a'), t('b')),
        'chain_linked': linked(chain(linked(t('a'), link=[t('cb')]), t('b')), **both),
        'chain_stamped': with_options(
            chain(t('a'), with_options(t('b'), foo='old', stamped_headers=['foo'])), foo='older', stamped_headers=['foo']),
        'chain_of_kinds': nested_chain(t('a'), two(), pair(), nested_chain(t('b'))),
        'group': two(),
        'group_linked': linked(group(linked(t('a'), link=[t('cb')]), t('b')), **both),
        'group_nested': group(t('a'), group(t('b'), chain(t('c'), t('d')))),
        'chord': pair(),
        'chord_linked': linked(pair(), **both),
        'chord_body_linked': ALL['chord_body_linked'](),
        'chord_body_chain': ALL['chord_body_chain'](),
        'chord_header_of_chords': ALL['chord_header_of_chords'](),
        'chord_frozen': frozen(pair()),
        'map': ALL['map'](),
    }


def stampings():
    """Name, visitor, stamps and whether they are appended."""
    yield 'stamps', None, {'foo': 'new', 'bar': [1]}, False
    yield 'appended', None, {'foo': 'new', 'bar': [1]}, True
    yield 'dict', None, {'foo': {'deep': 1}}, False
    yield 'none', None, {}, False
    yield 'naming_fewer', None, {'foo': 'new', 'bar': 1, 'stamped_headers': ['foo']}, False
    for name, visitor in VISITORS.items():
        yield f'visitor_{name}', visitor, {}, False
        if name in ('signature_same_name', 'signature_lists', 'each'):
            yield f'visitor_{name}_and_stamps', visitor, {'foo': 'new', 'list': [0]}, False
            yield f'visitor_{name}_appended', visitor, {'foo': 'new', 'list': [0]}, True


def stamps():
    for name in stamped_canvases():
        for kind, visitor, headers, append in stampings():
            signature = plain(stamped_canvases()[name])
            yield stamp(f'{name}/{kind}', signature, visitor, headers, append)
    for name, visitor, headers, append in stampings():
        for kind in ('task_linked', 'chain_linked', 'chord_linked'):
            first = stamp('', plain(stamped_canvases()[kind]), None, {'foo': 'first', 'once': 1}, False)
            yield stamp(f'{kind}_twice/{name}', first['stamped'], visitor, headers, append)


def stamp(name, signature, visitor, headers, append):
    notes.begin()
    sig = from_json(signature)
    _, raises = attempt(lambda: sig.stamp(
        visitor and Visitor(visitor), append_stamps=append, **plain(headers)))
    return {
        'name': name, 'signature': signature, 'visitor': visitor, 'stamps': headers, 'append': append, 'stamped': plain(sig),
        'raises': raises,
    }
