"""What composing, freezing and applying a canvas gives: no task is running."""
from celery.canvas import _chain as nested_chain
from celery.canvas import _chord, chain, chord, group

from .app import attempt, from_json, frozen, notes, plain
from .signatures import ALL, FEW, FOLLOWING, OUTER, REST, linked, pair, si, t, two, with_options

# The kinds of what is joined, each with each; the tasks have the name that is given.
JOINED = {
    'task': lambda x: t(x, 1),
    'linked': lambda x: linked(t(x), link=[t('cb')], link_error=[t('eb')]),
    'chain': lambda x: chain(t(x, 1), t(x, 2)),
    'chain_one': lambda x: nested_chain(t(x)),
    'chain_empty': lambda x: nested_chain(),
    'chain_linked': lambda x: linked(chain(t(x, 1), t(x, 2)), link=[t('cb')], link_error=[t('eb')]),
    'chain_ending_in_group': lambda x: nested_chain(t(x, 1), group(t(x, 2), t(x, 3))),
    'chain_ending_in_chord': lambda x: nested_chain(t(x, 1), chord([t(x, 2), t(x, 3)], t(x, 4))),
    'chain_ending_in_chord_and_group': lambda x: nested_chain(chord([t(x, 2)], t(x, 4)), group(t(x, 5), t(x, 6))),
    'chain_led_by_group': lambda x: nested_chain(group(t(x, 1), t(x, 2)), t(x, 3)),
    'group': lambda x: group(t(x, 1), t(x, 2)),
    'group_one': lambda x: group(t(x, 1)),
    'group_empty': lambda x: group(),
    'chord': lambda x: chord([t(x, 1), t(x, 2)], t(x, 3)),
    'chord_with_chain_body': lambda x: chord([t(x, 1)], chain(t(x, 2), t(x, 3))),
}

# More kinds, each with the plainest of the others.
MORE_JOINED = {
    'immutable': lambda x: si(x, 1),
    'chain_options': lambda x: with_options(chain(t(x, 1), t(x, 2)), queue='other'),
    'chain_led_by_chord': lambda x: nested_chain(chord([t(x, 1), t(x, 2)], t(x, 3)), t(x, 4)),
    'chain_nested': lambda x: nested_chain(t(x, 1), nested_chain(t(x, 2), t(x, 3))),
    'group_one_chain': lambda x: group([chain(t(x, 1), t(x, 2))]),
    'group_nested': lambda x: group(t(x, 1), group(t(x, 2), t(x, 3))),
    'chord_with_group_body': lambda x: chord([t(x, 1)], group(t(x, 2), t(x, 3))),
    'chord_with_chord_body': lambda x: chord([t(x, 1)], chord([t(x, 2)], t(x, 3))),
    'chord_empty': lambda x: chord([], t(x, 3)),
}
PLAINEST = ('task', 'chain', 'group', 'chord')

# Each of these takes ten times the room of another: a chord's body is in each task of its header, too.
LARGE = (
    'chain_of_nine_chords', 'chord_body_chord_body_chord', 'chord_body_chain_of_chords', 'chord_body_chord_header_chord',
    'chord_links_on_group_body', 'chord_body_group_of_chords',
)


def joins():
    pairs = [(left, right) for left in JOINED for right in JOINED]
    for kind in MORE_JOINED:
        pairs += [pair for other in PLAINEST for pair in ((kind, other), (other, kind))]
    kinds = JOINED | MORE_JOINED
    for left, right in pairs:
        notes.begin()
        case = {'name': f'{left}|{right}', 'left': plain(kinds[left]('l')), 'right': plain(kinds[right]('r'))}
        joined, raises = attempt(lambda: from_json(case['left']) | from_json(case['right']))
        yield {**case, 'joined': plain(joined), 'raises': raises}


def folded():
    """The arguments of `chain(…)`."""
    kinds = JOINED | MORE_JOINED
    yield 'none', []
    for name in kinds:
        yield f'only_{name}', [kinds[name]('a')]
    for name in kinds:
        yield f'{name}_between', [t('first'), kinds[name]('a'), t('last')]
    for name in kinds:
        yield f'{name}_first_and_last', [kinds[name]('a'), t('middle'), kinds[name]('b')]
    yield 'five_groups', [two(k) for k in range(1, 10, 2)]
    yield 'three_chords', [pair(k) for k in range(1, 6, 2)]
    yield 'groups_and_chords', [two(), t('a'), pair(3), two(5), t('b'), group(), t('c'), two(7)]
    yield 'five_tasks', [t(name) for name in 'abcde']


def chains():
    for name, items in folded():
        notes.begin()
        case = {'name': name, 'items': plain(items)}
        joined, raises = attempt(lambda: chain([from_json(item) for item in case['items']]))
        yield {**case, 'joined': plain(joined), 'raises': raises}


def freezes():
    """Freezing in every place: alone, in a chain (`root_id`), as a member of a chord, as a chord's body."""
    places = {
        'alone': {},
        'named': {'_id': 'I', 'root_id': 'R', 'parent_id': 'P'},
        'member': {'group_id': 'G', 'chord': OUTER, 'root_id': 'R', 'parent_id': 'P', 'group_index': 2},
    }
    for name, build in ALL.items():
        for place, arguments in places.items():
            if place == 'alone' or name in FEW or name not in LARGE and place == 'member':
                yield freeze(f'{name}/{place}', plain(build()), arguments)
    for name in ('task', 'chain_group_middle', 'group_nested', 'chord_header_of_chords'):
        notes.begin('F')
        sig = from_json(plain(ALL[name]()))
        sig.freeze()
        yield freeze(f'{name}/twice', plain(sig), {'_id': 'I', 'root_id': 'R', 'group_id': 'G', 'group_index': 2})


def freeze(name, signature, arguments):
    """One case; `size` is how many parts of an outer chord the canvas is."""
    notes.begin()
    sig = from_json(signature)
    size, _ = attempt(lambda: _chord._descend(sig))
    given = {**arguments, 'chord': from_json(arguments['chord'])} if 'chord' in arguments else arguments
    result, raises = attempt(lambda: sig.freeze(**given))
    return {
        'name': name, 'signature': signature, 'size': size, 'args': arguments, 'frozen': plain(sig),
        'result': plain(result.as_tuple()) if result is not None else None, 'raises': raises,
    }


def applied():
    """Names, signatures and arguments of what is applied."""
    for name, build in ALL.items():
        yield f'{name}/given', build(), [7], {}, {}
        yield f'{name}/frozen', frozen(build()), [7], {}, FOLLOWING
        if name not in LARGE:
            yield f'{name}/member', frozen(build(), group_id='G', chord=from_json(OUTER), group_index=2), [7], {}, FOLLOWING
    for name in FEW:
        for kind, (args, kwargs, options) in calls().items():
            yield f'{name}/{kind}', ALL[name](), args, kwargs, options


def calls():
    """Arguments and options of calls, by name."""
    return {
        'plain': ([], {}, {}),
        'kwargs': ([7], {'k': 8}, {}),
        'following': ([7], {}, FOLLOWING),
        'following_with_rest': ([7], {}, {**FOLLOWING, 'chain': plain(REST)}),
        'following_at_the_end': ([7], {}, {**FOLLOWING, 'chain': []}),
        'queue': ([], {}, {'queue': 'given', 'priority': 5, 'expires': 60}),
        'countdown': ([], {}, {'countdown': 20}),
        'id': ([], {}, {'task_id': 'I'}),
        'links': ([], {}, {'link': [plain(t('given'))], 'link_error': [plain(t('given_eb'))]}),
        'chord': ([], {}, {'chord': plain(OUTER), 'group_id': 'G', 'group_index': 2}),
        'nesting': ([], {}, {'replaced_task_nesting': 2, 'add_to_parent': False}),
        'stamps': ([], {}, {'stamped_headers': ['batch', 'tenant'], 'batch': 'given', 'tenant': [1, 2]}),
        'unknown': ([], {}, {'weird': {'a': None}, 'headers': {'tenant': 7}}),
    }


def applies():
    for name, signature, args, kwargs, options in applied():
        case = {'name': name, 'signature': plain(signature), 'args': args, 'kwargs': kwargs, 'options': plain(options)}
        notes.begin()
        sig = from_json(case['signature'])
        result, raises = attempt(lambda: sig.apply_async(tuple(args), dict(kwargs), **options))
        yield {
            **case, 'ops': notes.ops, 'result': plain(result.as_tuple()) if result is not None else None, 'raises': raises,
        }
