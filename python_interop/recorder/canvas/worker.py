"""What a worker makes of a task that has ended, of a chord that fails, and of a task that replaces itself."""
from celery._state import _task_stack
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.canvas import _chain as nested_chain
from celery.canvas import chain, chord, group, xmap
from celery.exceptions import ChordError

from .app import app, attempt, from_json, frozen, notes, outcome, plain, settings
from .changed import ON_HEADERS
from .signatures import ALL, OUTER, REST, linked, pair, si, t, two, with_options


@app.task(name='t.ended')
def ended(raises):
    if raises:
        raise ValueError('boom')
    return 7


@app.task(name='t.replaced', bind=True)
def replaced(self):
    """Only its request is used."""


# Errbacks that the worker knows: the first two are called where the task has failed, the others are sent.
@app.task(name='t.eb_new')
def eb_new(request, exc, traceback):
    notes.note('call', task='t.eb_new', id=request.id, args=[], **outcome(exc))


@app.task(name='t.eb_more')
def eb_more(request, exc, traceback, *more):
    notes.note('call', task='t.eb_more', id=request.id, args=more, **outcome(exc))


@app.task(name='t.eb_old')
def eb_old(task_id):
    """Has one argument."""


@app.task(name='t.eb_bound', bind=True)
def eb_bound(self, request, exc, traceback):
    """Is bound."""


REQUEST = {'id': 'T', 'root_id': 'R', 'parent_id': 'P', 'delivery_info': {'priority': 3}}
MEMBER = {'chord': OUTER, 'group': 'G', 'group_index': 1}


def of_kinds():
    """One of each kind that can follow a task."""
    return {
        'task': t('cb', 1),
        'immutable': si('cb', 1),
        'task_options': with_options(t('cb'), queue='other', countdown=3, task_id='X', group_id='own', group_index=5),
        'linked': linked(t('cb'), link=[t('deep')], link_error=[t('eb')]),
        'stamped': with_options(t('cb'), foo=1, stamped_headers=['foo']),
        'chain': chain(t('a'), t('b')),
        'chain_of_one': nested_chain(t('a')),
        'chain_empty': nested_chain(),
        'chain_with_links': ALL['chain_links'](),
        'chain_group_first': ALL['chain_group_first'](),
        'chain_group_end': ALL['chain_group_end'](),
        'chain_chord_end': ALL['chain_chord_end'](),
        'group': two(),
        'group_of_one': group(t('a')),
        'group_of_one_chain_ending_in_group': ALL['group_of_one_chain_ending_in_group'](),
        'group_empty': group(),
        'group_nested': ALL['group_nested'](),
        'group_of_chains': ALL['group_of_chains'](),
        'group_of_chords': ALL['group_of_chords'](),
        'chord': pair(),
        'chord_empty': chord([], t('sum')),
        'chord_with_chain_body': ALL['chord_body_chain'](),
        'chord_with_group_body': ALL['chord_body_group'](),
        'chord_with_chord_body': ALL['chord_body_chord'](),
        'chord_header_of_groups': ALL['chord_header_of_chain_ending_in_group'](),
        'map': xmap(t('add'), [1, 2]),
        'chunks': ALL['chunks'](),
    }


def pending(*tasks):
    """The field `chain` of a message: the canvas as it was sent, the first task of it running."""
    notes.begin('F')
    nested_chain(t('first'), *tasks).apply_async()
    return notes.ops[0]['options']['chain']


def callbacks():
    kinds = of_kinds()
    for name, sig in kinds.items():
        yield f'callback_{name}', {'callbacks': [sig]}
    for name in ('task', 'chain', 'group', 'chord'):
        yield f'callback_frozen_{name}', {'callbacks': [frozen(of_kinds()[name])]}
    yield 'callbacks_two', {'callbacks': [t('a'), t('b')]}
    yield 'callbacks_groups_among', {'callbacks': [t('a'), two(), t('b'), two(3)]}
    yield 'callbacks_one_and_group', {'callbacks': [t('a'), two()]}
    yield 'callbacks_groups_only', {'callbacks': [two(), two(3)]}
    yield 'callbacks_of_kinds', {'callbacks': [chain(t('a'), t('b')), pair(), si('c'), xmap(t('add'), [1])]}
    yield 'callbacks_own_ids', {'callbacks': [with_options(t('a'), task_id='X1'), with_options(t('b'), task_id='X2')]}
    yield 'callbacks_none', {'callbacks': []}


def chains():
    kinds = of_kinds()
    for name in ('task', 'immutable', 'task_options', 'linked', 'stamped', 'group', 'group_nested', 'group_of_chains',
                 'group_of_chords', 'chord', 'chord_empty', 'chord_with_chain_body', 'chord_with_group_body',
                 'chord_with_chord_body', 'chord_header_of_groups', 'map', 'chunks'):
        yield f'chain_{name}', {'chain': pending(kinds[name])}
        yield f'chain_{name}_and_more', {'chain': pending(of_kinds()[name], t('more'), t('last'))}
    yield 'chain_two_groups', {'chain': pending(two(), two(3))}
    yield 'chain_chords', {'chain': pending(pair(), pair(3), pair(5))}
    yield 'chain_empty', {'chain': []}
    yield 'chain_unfrozen', {'chain': [t('last'), t('next')]}
    yield 'chain_whole_chain', {'chain': [t('last'), chain(t('a'), t('b'))]}


def members():
    yield 'alone', {}
    yield 'root', {'root_id': None}
    yield 'member', MEMBER
    yield 'member_without_index', {**MEMBER, 'group_index': None}
    yield 'member_without_chord', {'group': 'G', 'group_index': 1}
    yield 'member_ignored', {**MEMBER, 'ignore_result': True}
    yield 'callback_and_chain', {'callbacks': [t('cb')], 'chain': pending(t('next'), t('last'))}
    yield 'callback_and_chain_and_member', {'callbacks': [t('cb'), two()], 'chain': pending(t('next')), **MEMBER}
    yield 'ignored', {'callbacks': [t('cb')], 'ignore_result': True}


def errbacks():
    yield 'errback', {'errbacks': [t('eb')]}
    yield 'errback_root', {'errbacks': [t('eb')], 'root_id': None}
    yield 'errbacks', {'errbacks': [t('eb'), si('eb', 1), t('eb', 2, k=3)]}
    yield 'errback_options', {'errbacks': [with_options(t('eb'), queue='other', countdown=3, task_id='X')]}
    yield 'errback_group', {'errbacks': [two()]}
    yield 'errback_groups_among', {'errbacks': [t('eb'), two(), group(t('c'), two(5))]}
    yield 'errback_chain', {'errbacks': [chain(t('a'), t('b'))]}
    yield 'errback_chain_immutable', {'errbacks': [chain(si('a'), t('b')), t('eb')]}
    yield 'errback_chord', {'errbacks': [pair()]}
    yield 'errback_map', {'errbacks': [xmap(t('add'), [1])]}
    yield 'errback_new', {'errbacks': [t('eb_new')]}
    yield 'errback_new_immutable', {'errbacks': [si('eb_new')]}
    yield 'errback_more', {'errbacks': [t('eb_more', 1)]}
    yield 'errback_old', {'errbacks': [t('eb_old')]}
    yield 'errback_old_immutable', {'errbacks': [si('eb_old', 'own')]}
    yield 'errback_bound', {'errbacks': [t('eb_bound', 1, 2)]}
    yield 'errbacks_of_styles', {'errbacks': [t('eb'), t('eb_new'), t('eb_old'), t('eb_more')]}
    yield 'errback_and_member', {'errbacks': [t('eb')], **MEMBER}
    yield 'errback_and_ignored', {'errbacks': [t('eb')], 'ignore_result': True}


def failed_chains():
    for name in ('task', 'group', 'chord', 'chord_with_chain_body', 'chord_with_group_body', 'chord_with_chord_body'):
        yield f'failing_chain_{name}', {'chain': pending(of_kinds()[name])}
        yield f'failing_chain_{name}_and_more', {'chain': pending(of_kinds()[name], t('more'), t('last'))}
    yield 'failing_chain_and_errback', {'chain': pending(t('next')), 'errbacks': [t('eb')], **MEMBER}
    yield 'failing_chain_unfrozen', {'chain': [t('last'), t('next')]}
    yield 'failing_chain_ignored', {'chain': in_outer_chord(t('next'), t('last')), 'ignore_result': True}
    yield 'failing_chain_in_chord', {'chain': in_outer_chord(t('next'), t('last'))}
    yield 'failing_chain_in_chord_ending_in_chord', {'chain': in_outer_chord(t('next'), pair())}
    yield 'failing_chain_in_chord_ending_in_group', {'chain': in_outer_chord(t('next'), two())}
    yield 'failing_chain_in_chord_failed_before', {'chain': in_outer_chord(t('next'), t('last'))}, {'F0': 'FAILURE'}
    yield 'failing_chain_in_chord_ended_before', {'chain': in_outer_chord(t('next'), t('last'))}, {'F0': 'SUCCESS'}


def in_outer_chord(*tasks):
    """The field `chain` of a message whose chain is a member of a chord."""
    notes.begin('F')
    nested_chain(t('first'), *tasks).apply_async(chord=from_json(OUTER), group_id='G', group_index=2)
    return notes.ops[0]['options']['chain']


def follows():
    """Success, failure and revocation of the task T."""
    for cases, state in (
        (callbacks, 'SUCCESS'), (chains, 'SUCCESS'), (members, 'SUCCESS'),
        (errbacks, 'FAILURE'), (failed_chains, 'FAILURE'), (members, 'FAILURE'), (members, 'REVOKED'),
    ):
        for name, fields, *stored in cases():
            yield follow(f'{name}/{state}', fields, state, *stored)
    yield follow('errbacks_unused/SUCCESS', {'errbacks': [t('eb')]}, 'SUCCESS')
    yield follow('callback_unused/FAILURE', {'callbacks': [t('cb')]}, 'FAILURE')
    yield follow('chain_and_errback/REVOKED', {'chain': pending(t('next')), 'errbacks': [t('eb')], **MEMBER}, 'REVOKED')
    fields = {'callbacks': [t('a'), two()], 'chain': pending(pair())}
    yield follow('inherited_priority/SUCCESS', fields, 'SUCCESS', conf={'task_inherit_parent_priority': True})
    yield follow('inherited_priority_one/SUCCESS', {'callbacks': [chain(t('a'), t('b'))], 'chain': pending(two())}, 'SUCCESS',
                 conf={'task_inherit_parent_priority': True})


def follow(name, fields, state, stored=None, conf=None):
    request = plain({**REQUEST, **fields})
    notes.begin()
    notes.states.update(stored or {})
    given = plain(request)
    with settings(conf or {}):
        if state == 'REVOKED':
            _, raises = attempt(lambda: app.backend.mark_as_revoked(
                'T', 'revoked', request=Context(given), store_result=not given.get('ignore_result')))
        else:
            trace = build_tracer('t.ended', ended, app=app)
            _, raises = attempt(lambda: trace('T', (state == 'FAILURE',), {}, given))
    return {
        'name': name, 'request': request, 'state': state, 'stored': stored or {}, 'conf': conf or {}, 'ops': notes.ops,
        'raises': raises,
    }


def bodies():
    """Bodies of chords whose header has failed."""
    errback = {'link_error': [t('eb')]}
    yield 'task', t('sum')
    yield 'task_linked', linked(t('sum'), link=[t('cb')], link_error=[t('eb'), si('eb', 1)])
    yield 'task_link_error_single', linked(t('sum'), link_error=t('eb'))
    yield 'task_link_error_group', linked(t('sum'), link_error=[two()])
    yield 'task_link_error_new', linked(t('sum'), link_error=[t('eb_new'), t('eb'), t('eb_old')])
    yield 'task_link_error_invalid', linked(t('sum'), link_error=[t('eb_old', 1, 2)])
    yield 'task_chain', with_options(t('sum'), chain=plain(REST))
    yield 'task_chain_of_chord', with_options(t('sum'), chain=[frozen(pair()), *plain(REST)])
    yield 'task_in_chord', with_options(t('sum'), chord=plain(OUTER), group_id='G', group_index=2)
    yield 'task_in_chord_with_chain', with_options(
        t('sum'), chord=plain(OUTER), group_id='G', group_index=2,
        chain=[{**REST[0], 'options': {**REST[0]['options'], 'chord': OUTER, 'group_id': 'G2', 'group_index': 1}}])
    yield 'chain', chain(t('sum'), t('a'))
    yield 'chain_linked', linked(chain(linked(t('sum'), link_error=[t('own')]), t('a')), **errback)
    yield 'chain_chain', with_options(linked(chain(t('sum'), t('a')), **errback), chain=plain(REST))
    yield 'chord', pair(5)
    yield 'chord_linked', linked(chord([t('a'), t('b')], linked(t('sum'), link_error=[t('inner')])), **errback)
    yield 'group', two()
    yield 'group_linked', linked(group(linked(t('a'), link_error=[t('own')]), t('b')), **errback)
    yield 'group_linked_same', linked(group(linked(t('a'), **errback), linked(t('b'), link_error=t('own'))), **errback)
    yield 'group_chain', with_options(two(), chain=plain(REST))
    yield 'group_of_chains', group(linked(chain(linked(t('a'), link_error=[t('inner')]), t('b')), **errback), t('c'))
    yield 'group_of_chain_ending_in_group', group(nested_chain(t('a'), two()), t('c'))
    yield 'group_of_chords', group(
        linked(chord([linked(t('a'), link_error=[t('header')]), t('b')], linked(t('sum'), link_error=[t('inner')])), **errback),
        t('c'))
    yield 'group_of_chord_with_group_body', group(
        chord([t('a'), t('b')], linked(group(linked(t('d'), link_error=[t('inner')]), t('e')), **errback)), t('c'))
    yield 'group_of_nested_groups', group(group(linked(t('a'), link_error=[t('inner')]), t('b')), t('c'))
    yield 'group_errback_invalid', group(linked(t('a'), link_error=[t('eb_old', 1, 2), t('eb')]), t('b'))
    yield 'group_errback_new', linked(two(), link_error=[t('eb_new')])
    yield 'group_empty', group()
    yield 'map', xmap(t('add'), [1, 2])


def chord_errors():
    for name, body in bodies():
        yield chord_error(f'{name}/frozen', plain(frozen(body)))
    for name, body in bodies():
        if name in ('task', 'task_linked', 'chain', 'group_linked', 'chord'):
            yield chord_error(f'{name}/given', plain(body))


def chord_error(name, signature):
    notes.begin()
    body = from_json(signature)

    def fail():
        try:
            try:
                raise ValueError('boom')
            except ValueError as exc:
                raise ChordError(f'Dependency D raised {exc!r}') from exc
        except ChordError as exc:
            app.backend.chord_error_from_stack(body, exc)
    _, raises = attempt(fail)
    return {'name': name, 'signature': signature, 'ops': notes.ops, 'raises': raises}


def replacements():
    return {
        'task': t('a', 1),
        'task_linked': linked(t('a', 1), link=[t('own')], link_error=[t('own_eb')]),
        'task_id': with_options(t('a', 1), task_id='X'),
        'task_in_chord': with_options(t('a', 1), chord=OUTER),
        'chain': chain(t('a', 1), t('b'), t('c')),
        'chain_of_one': nested_chain(t('a', 1)),
        'chain_linked': linked(chain(t('a', 1), t('b')), link=[t('own')], link_error=[t('own_eb')]),
        'chain_empty': nested_chain(),
        'chain_ending_in_group': nested_chain(t('a'), two()),
        'chain_ending_in_chord': nested_chain(t('a'), pair()),
        'chain_led_by_group': nested_chain(two(), t('sum')),
        'chain_nested': nested_chain(t('a'), nested_chain(t('b'), t('c'))),
        'group': two(),
        'group_of_one': group(t('a')),
        'group_empty': group(),
        'group_of_chains': group(chain(t('a'), t('b')), t('c')),
        'chord': pair(),
        'chord_linked': linked(pair(), link=[t('own')], link_error=[t('own_eb')]),
        'chord_with_chain_body': chord([t('a')], chain(t('sum'), t('b'))),
        'chord_with_group_body': chord([t('a')], two()),
        'map': xmap(t('add'), [1, 2]),
    }


def requests():
    """What the replaced task was called with."""
    callbacks, errbacks = [plain(t('cb'))], [plain(t('eb'))]
    return {
        'alone': {},
        'callbacks': {'callbacks': callbacks, 'errbacks': errbacks},
        'chain': {'chain': plain(REST)},
        'member': MEMBER,
        'all': {'callbacks': callbacks, 'errbacks': errbacks, 'chain': plain(REST), **MEMBER, 'replaced_task_nesting': 2},
    }


def replaces():
    for name, sig in replacements().items():
        for kind, fields in requests().items():
            yield replace(f'{name}/{kind}', fields, plain(sig), 'replace')
    both = requests()['callbacks']
    for name in ('task', 'chain_ending_in_group', 'group', 'chord'):
        yield replace(f'{name}/callbacks_on_headers', both, plain(replacements()[name]), 'replace', ON_HEADERS)
    kinds = {**both, 'callbacks': [plain(two()), plain(chain(t('x'), t('y')))], 'errbacks': [plain(chain(si('x'), t('y')))]}
    for name in ('task', 'chain', 'group', 'chord'):
        yield replace(f'{name}/callbacks_of_kinds', kinds, plain(replacements()[name]), 'replace')
    rest = {'chain': pending(pair(), t('after'), two())}
    for name in ('task', 'chain', 'group', 'chord', 'chain_ending_in_group', 'chain_ending_in_chord'):
        yield replace(f'{name}/chain_of_kinds', rest, plain(replacements()[name]), 'replace')
    for name in ('task', 'task_linked', 'chain', 'group', 'chord', 'chain_ending_in_group', 'task_id'):
        for kind, fields in (('member', MEMBER), ('alone', {})):
            yield replace(f'add_{name}/{kind}', fields, plain(replacements()[name]), 'add_to_chord')


def replace(name, fields, signature, method, conf=None):
    request = plain({**REQUEST, **fields})
    notes.begin()
    sig = from_json(signature)
    replaced.push_request(**plain(request), args=[], kwargs={}, called_directly=False)
    _task_stack.push(replaced)
    try:
        with settings(conf or {}):
            _, raises = attempt(lambda: getattr(replaced, method)(sig))
    finally:
        _task_stack.pop()
        replaced.pop_request()
    return {
        'name': name, 'request': request, 'signature': signature, 'method': method, 'conf': conf or {}, 'ops': notes.ops,
        'raises': raises,
    }
