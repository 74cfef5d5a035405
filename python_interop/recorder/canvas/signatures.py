"""The canvases that are recorded, by name; each is built anew for each case.

Tasks are `t.*`, which nobody registered: all that is known of them is what the signature says.
"""
from celery.canvas import _chain as nested_chain
from celery.canvas import chain, chord, chunks, group, xmap, xstarmap

from .app import app


def t(name, *args, **kwargs):
    return app.signature(f't.{name}', args=args, kwargs=kwargs)


def si(name, *args, **kwargs):
    return app.signature(f't.{name}', args=args, kwargs=kwargs, immutable=True)


def two(start=1):
    return group(t('add', start), t('add', start + 1))


def pair(start=1, body='sum'):
    return chord([t('add', start), t('add', start + 1)], t(body))


def with_options(sig, **options):
    sig.options.update(options)
    return sig


def linked(sig, link=None, link_error=None):
    """Callbacks in the signature's own options, whatever its `link` method would do."""
    for key, value in (('link', link), ('link_error', link_error)):
        if value is not None:
            sig.options[key] = value
    return sig


def group_header(sig, **options):
    """The chord with its header written as a group, as freezing leaves it."""
    sig.tasks = group(list(sig.tasks), **options)
    return sig


TASKS = {
    'task': lambda: t('add', 2),
    'task_immutable': lambda: si('add', 2, 3),
    'task_kwargs': lambda: t('add', 1, k=2),
    'task_link': lambda: linked(t('add', 2), link=[t('noop')]),
    'task_link_single': lambda: linked(t('add', 2), link=t('noop'), link_error=t('eb')),
    'task_link_error': lambda: linked(t('add', 2), link_error=[t('eb'), si('eb', 1)]),
    'task_links_of_each_kind': lambda: linked(
        t('add', 2), link=[t('noop'), two(), chain(t('a'), t('b')), pair()], link_error=[chain(si('eb'), t('b')), two()]),
    'task_countdown': lambda: with_options(t('add', 2), countdown=10),
    'task_queue': lambda: with_options(t('add', 2), queue='other', priority=3, expires=60),
    'task_limits': lambda: with_options(t('add', 2), time_limit=20, soft_time_limit=10, ignore_result=True, shadow='shown'),
    'task_headers': lambda: with_options(t('add', 2), headers={'tenant': 7}, serializer='json', compression='zlib'),
    'task_id': lambda: with_options(t('add', 2), task_id='X', root_id='own-root', parent_id='own-parent'),
    'task_unknown_option': lambda: with_options(t('add', 2), weird=[1, {'a': None}]),
    'task_stamped': lambda: with_options(t('add', 2), batch='b-7', stamped_headers=['batch']),
    'task_chain_option': lambda: with_options(t('add', 2), chain=[t('z'), t('y')]),
    'task_reply_to': lambda: with_options(t('add', 2), reply_to='another'),
}

CHAINS = {
    'chain_two': lambda: chain(t('add', 1, 2), t('noop')),
    'chain_three': lambda: chain(t('add', 1, 2), t('add', 4), t('noop', k=1)),
    'chain_one': lambda: nested_chain(t('add', 1, 2)),
    'chain_empty': lambda: nested_chain(),
    'chain_of_immutable': lambda: chain(t('add', 1), si('noop'), si('noop', 2)),
    'chain_first_immutable': lambda: chain(si('add', 1), t('noop')),
    'chain_immutable': lambda: chain(t('add', 1), t('noop'), immutable=True),
    'chain_of_options': lambda: chain(
        with_options(t('add', 1), queue='one'), with_options(t('add', 2), queue='two', countdown=3), t('noop')),
    'chain_own_ids': lambda: chain(
        with_options(t('add', 1), task_id='X1'), with_options(t('add', 2), task_id='X2'), t('noop')),
    'chain_nested': lambda: nested_chain(t('a'), nested_chain(t('b'), t('c')), t('d')),
    'chain_nested_first': lambda: nested_chain(nested_chain(t('a'), t('b')), t('c')),
    'chain_nested_last': lambda: nested_chain(t('a'), nested_chain(t('b'), t('c'))),
    'chain_nested_deep': lambda: nested_chain(nested_chain(nested_chain(t('a'), nested_chain(t('b'))), t('c')), t('d')),
    'chain_nested_empty': lambda: nested_chain(t('a'), nested_chain(), t('b')),
    'chain_nested_empty_ends': lambda: nested_chain(nested_chain(), t('a'), nested_chain()),
    'chain_nested_with_links': lambda: nested_chain(
        t('a'), linked(nested_chain(t('b'), t('c')), link=[t('inner')], link_error=[t('eb')]), t('d')),
    'chain_link': lambda: linked(chain(t('add', 1), t('noop')), link=[t('cb')]),
    'chain_links': lambda: linked(chain(t('a'), t('b'), t('c')), link=[t('cb'), two()], link_error=[t('eb'), t('eb', 2)]),
    'chain_link_single': lambda: linked(chain(t('a'), t('b')), link=t('cb'), link_error=t('eb')),
    'chain_link_on_linked': lambda: linked(
        chain(linked(t('a'), link_error=[t('own')]), linked(t('b'), link=[t('own')])), link=[t('cb')], link_error=[t('own')]),
    'chain_queue': lambda: with_options(chain(t('a'), t('b')), queue='other', priority=4),
    'chain_countdown': lambda: with_options(chain(t('a'), t('b'), t('c')), countdown=10, expires=60),
    'chain_id': lambda: with_options(chain(t('a'), t('b')), task_id='X', root_id='own-root', parent_id='own-parent'),
    'chain_chain_option': lambda: with_options(chain(t('a'), t('b')), chain=[t('z'), t('y')]),
    'chain_stamped': lambda: with_options(chain(t('a'), t('b')), batch='b-7', stamped_headers=['batch']),
    'chain_group_first': lambda: nested_chain(two(), t('sum')),
    'chain_group_first_then_two': lambda: nested_chain(two(), t('sum'), t('noop')),
    'chain_group_first_with_links': lambda: linked(
        nested_chain(two(), t('sum'), t('noop')), link=[t('cb')], link_error=[t('eb')]),
    'chain_group_middle': lambda: nested_chain(t('a'), two(), t('sum')),
    'chain_group_middle_piped': lambda: t('a') | two() | t('sum') | t('noop'),
    'chain_group_middle_with_links': lambda: linked(
        nested_chain(t('a'), two(), t('sum')), link=[t('cb')], link_error=[t('eb')]),
    'chain_group_end': lambda: nested_chain(t('a'), two()),
    'chain_group_end_with_links': lambda: linked(nested_chain(t('a'), two()), link=[t('cb')], link_error=[t('eb')]),
    'chain_group_only': lambda: nested_chain(two()),
    'chain_group_only_with_link': lambda: linked(nested_chain(two()), link=[t('cb')]),
    'chain_two_groups': lambda: nested_chain(t('a'), two(), two(3)),
    'chain_two_groups_then_task': lambda: nested_chain(t('a'), two(), two(3), t('sum')),
    'chain_two_groups_first': lambda: nested_chain(two(), two(3)),
    'chain_three_groups': lambda: nested_chain(two(), two(3), two(5), t('sum')),
    'chain_group_of_one_first': lambda: nested_chain(group(t('a', 1)), t('b')),
    'chain_group_of_one_middle': lambda: nested_chain(t('a'), group(t('b')), t('c')),
    'chain_group_of_one_end': lambda: nested_chain(t('a'), group(t('b'))),
    'chain_group_of_one_only': lambda: nested_chain(group(t('a'))),
    'chain_group_of_one_chain': lambda: nested_chain(t('a'), group(chain(t('b'), t('c'))), t('d')),
    'chain_empty_group_first': lambda: nested_chain(group(), t('a'), t('b')),
    'chain_empty_group_middle': lambda: nested_chain(t('a'), group(), t('b')),
    'chain_empty_group_end': lambda: nested_chain(t('a'), group()),
    'chain_empty_group_only': lambda: nested_chain(group()),
    'chain_empty_groups_only': lambda: nested_chain(group(), group()),
    'chain_empty_group_and_empty_chain': lambda: nested_chain(group(), nested_chain()),
    'chain_empty_groups_and_chain': lambda: nested_chain(group(), nested_chain(group(), t('a')), group(), t('b')),
    'chain_group_of_groups': lambda: nested_chain(t('a'), group(two(), t('add', 3)), t('sum')),
    'chain_group_of_chains': lambda: nested_chain(t('a'), group(chain(t('b'), t('c')), t('d')), t('sum')),
    'chain_group_of_chains_end': lambda: nested_chain(t('a'), group(chain(t('b'), t('c')), t('d'))),
    'chain_group_of_chords_end': lambda: nested_chain(t('a'), group(pair(), t('d'))),
    'chain_chord_first': lambda: nested_chain(pair(), t('noop')),
    'chain_chord_only': lambda: nested_chain(pair()),
    'chain_chord_middle': lambda: nested_chain(t('a'), pair(), t('noop'), t('last')),
    'chain_chord_middle_with_links': lambda: linked(
        nested_chain(t('a'), pair(), t('noop')), link=[t('cb')], link_error=[t('eb')]),
    'chain_chord_end': lambda: nested_chain(t('a'), pair()),
    'chain_chord_end_with_links': lambda: linked(nested_chain(t('a'), pair()), link=[t('cb')], link_error=[t('eb')]),
    'chain_chord_only_with_links': lambda: linked(nested_chain(pair()), link=[t('cb')], link_error=[t('eb')]),
    'chain_two_chords': lambda: nested_chain(pair(), pair(3, 'max')),
    'chain_task_and_two_chords': lambda: nested_chain(t('a'), pair(), pair(3, 'max'), t('noop')),
    'chain_chord_with_chain_body': lambda: nested_chain(t('a'), chord([t('b'), t('c')], chain(t('sum'), t('d'))), t('e')),
    'chain_chord_with_chain_body_end': lambda: nested_chain(t('a'), chord([t('b'), t('c')], chain(t('sum'), t('d')))),
    'chain_chord_with_chain_body_of_options': lambda: nested_chain(t('a'), chord(
        [t('b'), t('c')],
        linked(with_options(chain(t('sum'), t('d')), queue='other', countdown=3), link=[t('cb')], link_error=[t('eb')]),
    ), t('e')),
    'chain_chord_with_chain_body_led_by_group': lambda: nested_chain(
        t('a'), chord([t('b'), t('c')], nested_chain(two(), t('sum'))), t('e')),
    'chain_chord_with_chain_body_ending_in_chord': lambda: nested_chain(
        t('a'), chord([t('b'), t('c')], nested_chain(t('sum'), pair(5))), t('e')),
    'chain_chord_with_group_body': lambda: nested_chain(t('a'), chord([t('b'), t('c')], two()), t('e')),
    'chain_chord_with_group_body_end': lambda: nested_chain(t('a'), chord([t('b'), t('c')], two())),
    'chain_chord_with_chord_body': lambda: nested_chain(t('a'), chord([t('b'), t('c')], pair(5)), t('e')),
    'chain_chord_with_empty_header': lambda: nested_chain(t('a'), chord([], t('sum')), t('e')),
    'chain_chord_then_group': lambda: nested_chain(t('a'), pair(), two(5)),
    'chain_chord_then_group_then_task': lambda: nested_chain(t('a'), pair(), two(5), t('sum')),
    'chain_group_then_chord': lambda: nested_chain(t('a'), two(), pair(5)),
    'chain_of_chain_led_by_group': lambda: nested_chain(t('a'), nested_chain(two(), t('b')), t('c')),
    'chain_of_chain_ending_in_group': lambda: nested_chain(nested_chain(t('a'), two()), t('b')),
    'chain_of_map': lambda: nested_chain(t('a'), xmap(t('add'), [1, 2]), xstarmap(t('add'), [[1, 2]])),
    'chain_led_by_map': lambda: nested_chain(xmap(t('add'), [1, 2]), t('sum')),
    'chain_of_chunks': lambda: nested_chain(t('a'), chunks(t('add'), [[1, 2], [3, 4], [5, 6]], 2)),
    'chain_of_nine_chords': lambda: nested_chain(*[pair(2 * k) for k in range(9)]),
    'chain_of_groups_piped': lambda: t('a') | two() | two(3) | t('sum') | two(5) | t('noop'),
}

GROUPS = {
    'group_two': lambda: two(),
    'group_one': lambda: group(t('add', 1)),
    'group_empty': lambda: group(),
    'group_of_immutable': lambda: group(si('add', 1, 2), t('add', 3)),
    'group_nested': lambda: group(t('a'), group(t('b'), t('c')), t('d')),
    'group_nested_deep': lambda: group(group(group(t('a'), t('b')), t('c')), group(t('d'), group(t('e'))), t('f')),
    'group_nested_empty': lambda: group(t('a'), group(), t('b')),
    'group_of_one_group': lambda: group([group(t('a'), t('b'))]),
    'group_of_chains': lambda: group(chain(t('a'), t('b')), chain(t('c'), t('d')), t('e')),
    'group_of_linked_chains': lambda: group(
        linked(chain(t('a'), t('b')), link=[t('cb')], link_error=[t('eb')]), with_options(chain(t('c'), t('d')), queue='other')),
    'group_of_chords': lambda: group(pair(), pair(3, 'max'), t('a')),
    'group_of_linked_chords': lambda: group(linked(pair(), link=[t('cb')], link_error=[t('eb')]), t('a')),
    'group_of_chord_with_group_body': lambda: group(chord([t('a'), t('b')], two()), t('c')),
    'group_of_chain_ending_in_group': lambda: group(nested_chain(t('a'), two()), t('b')),
    'group_of_chain_ending_in_chord': lambda: group(nested_chain(t('a'), pair()), t('b')),
    'group_of_chain_led_by_group': lambda: group(nested_chain(two(), t('sum')), t('b')),
    'group_of_one_chain_ending_in_group': lambda: group([nested_chain(t('a'), two())]),
    'group_with_empty_chain': lambda: group(t('a'), nested_chain(), t('b')),
    'group_ending_in_empty_chain': lambda: group(t('a'), nested_chain()),
    'group_of_empty_chain': lambda: group([nested_chain()]),
    'group_of_map': lambda: group(xmap(t('add'), [1, 2]), xstarmap(t('add'), [[1, 2]]), t('a')),
    'group_of_chunks': lambda: group(chunks(t('add'), [[1, 2], [3, 4], [5, 6]], 2), t('a')),
    'group_of_linked': lambda: group(linked(t('a'), link=[t('cb')]), linked(t('b'), link_error=[t('eb')])),
    'group_link': lambda: linked(two(), link=[t('cb')]),
    'group_link_error': lambda: linked(two(), link_error=[t('eb')]),
    'group_queue': lambda: with_options(two(), queue='other', priority=4, countdown=10),
    'group_of_queues': lambda: with_options(group(with_options(t('a'), queue='one', countdown=1), t('b')), queue='other'),
    'group_skewed': lambda: group(t('a'), t('b'), t('c')).skew(),
    'group_id': lambda: with_options(two(), task_id='GX', root_id='own-root', parent_id='own-parent'),
    'group_own_ids': lambda: group(with_options(t('a'), task_id='X1'), with_options(t('b'), task_id='X2', group_id='own')),
    'group_stamped': lambda: with_options(
        group(with_options(t('a'), own=1, stamped_headers=['own']), t('b')), batch='b-7', stamped_headers=['batch']),
    'group_chain_option': lambda: with_options(two(), chain=[t('z')]),
    'group_member_chain_option': lambda: group(with_options(t('a'), chain=[t('z')]), t('b')),
}

CHORDS = {
    'chord_two': lambda: pair(),
    'chord_one': lambda: chord([t('a')], t('sum')),
    'chord_empty': lambda: chord([], t('sum')),
    'chord_without_body': lambda: chord([t('a'), t('b')]),
    'chord_header_group': lambda: group_header(pair(), task_id='HG'),
    'chord_header_group_queue': lambda: group_header(pair(), queue='header'),
    'chord_header_of_immutable': lambda: chord([si('a'), t('b', 1)], t('sum')),
    'chord_header_of_options': lambda: chord([with_options(t('a'), queue='one', countdown=1), t('b')], t('sum')),
    'chord_header_of_linked': lambda: chord(
        [linked(t('a'), link=[t('cb')]), linked(t('b'), link_error=[t('eb')])], t('sum')),
    'chord_header_of_chains': lambda: chord([chain(t('a'), t('b')), t('c')], t('sum')),
    'chord_header_of_chain_ending_in_group': lambda: chord([nested_chain(t('a'), two()), t('c')], t('sum')),
    'chord_header_of_chain_ending_in_chord': lambda: chord([nested_chain(t('a'), pair()), t('c')], t('sum')),
    'chord_header_of_chain_led_by_group': lambda: chord([nested_chain(two(), t('b')), t('c')], t('sum')),
    'chord_header_with_empty_chain': lambda: chord([t('a'), nested_chain(), t('b')], t('sum')),
    'chord_header_ending_in_empty_chain': lambda: chord([t('a'), t('b'), nested_chain()], t('sum')),
    'chord_header_of_empty_chain': lambda: chord([nested_chain()], t('sum')),
    'chord_header_of_chords': lambda: chord([pair(), pair(3, 'max'), t('a')], t('sum')),
    'chord_header_of_chord_with_group_body': lambda: chord([chord([t('a'), t('b')], two()), t('c')], t('sum')),
    'chord_header_of_chord_with_chain_body': lambda: chord(
        [chord([t('a'), t('b')], chain(t('sum'), t('d'))), t('c')], t('sum')),
    'chord_header_of_groups': lambda: chord([t('a'), group(t('b'), t('c')), t('d')], t('sum')),
    'chord_header_of_deep_groups': lambda: chord(
        [group(group(t('a'), t('b')), t('c')), group(t('d'), group(t('e'), t('f'))), t('g')], t('sum')),
    'chord_header_of_one_group': lambda: chord([two()], t('sum')),
    'chord_header_of_map': lambda: chord([xmap(t('add'), [1, 2]), t('a')], t('sum')),
    'chord_header_chain': lambda: chord(nested_chain(t('a'), t('b')), t('sum')),
    'chord_body_immutable': lambda: chord([t('a'), t('b')], si('sum', 1)),
    'chord_body_queue': lambda: chord([t('a'), t('b')], with_options(t('sum'), queue='other', priority=4, countdown=10)),
    'chord_body_linked': lambda: chord([t('a'), t('b')], linked(t('sum'), link=[t('cb')], link_error=[t('eb')])),
    'chord_body_id': lambda: chord([t('a'), t('b')], with_options(t('sum'), task_id='X', root_id='own-root')),
    'chord_body_chain': lambda: chord([t('a'), t('b')], chain(t('sum'), t('c'), t('d'))),
    'chord_body_chain_with_options': lambda: chord([t('a'), t('b')], linked(
        with_options(chain(t('sum'), t('c')), queue='other', countdown=3), link=[t('cb')], link_error=[t('eb')])),
    'chord_body_chain_of_one': lambda: chord([t('a'), t('b')], nested_chain(t('sum'))),
    'chord_body_chain_empty': lambda: chord([t('a'), t('b')], nested_chain()),
    'chord_body_chain_led_by_group': lambda: chord([t('a'), t('b')], nested_chain(two(), t('sum'))),
    'chord_body_chain_ending_in_group': lambda: chord([t('a'), t('b')], nested_chain(t('sum'), two())),
    'chord_body_chain_with_chord': lambda: chord([t('a'), t('b')], nested_chain(t('sum'), pair(5), t('c'))),
    'chord_body_chain_of_chords': lambda: chord([t('a'), t('b')], nested_chain(pair(3), pair(5), pair(7))),
    'chord_body_nested_chain': lambda: chord([t('a'), t('b')], nested_chain(nested_chain(t('sum'), pair(5)), t('c'))),
    'chord_body_group': lambda: chord([t('a'), t('b')], two()),
    'chord_body_group_of_one': lambda: chord([t('a'), t('b')], group(t('c'))),
    'chord_body_group_empty': lambda: chord([t('a'), t('b')], group()),
    'chord_body_group_of_chords': lambda: chord([t('a'), t('b')], group(pair(3), chain(t('c'), t('d')))),
    'chord_body_group_nested': lambda: chord([t('a'), t('b')], group(t('c'), two(), t('d'))),
    'chord_body_chord': lambda: chord([t('a'), t('b')], pair(3)),
    'chord_body_chord_body_chord': lambda: chord([t('a'), t('b')], chord([t('c'), t('d')], pair(5))),
    'chord_body_chord_header_chord': lambda: chord([t('a'), t('b')], chord([pair(3), t('d')], t('max'))),
    'chord_body_map': lambda: chord([t('a'), t('b')], xmap(t('add'), [1, 2])),
    'chord_link': lambda: linked(pair(), link=[t('cb')]),
    'chord_link_error': lambda: linked(pair(), link_error=[t('eb')]),
    'chord_link_single': lambda: linked(pair(), link=t('cb'), link_error=t('eb')),
    'chord_links_on_linked_body': lambda: linked(
        chord([t('a'), t('b')], linked(t('sum'), link=[t('own')], link_error=[t('own')])),
        link=[t('cb'), t('own')], link_error=[t('eb'), t('own')]),
    'chord_links_on_group_body': lambda: linked(
        chord([t('a'), t('b')], group(t('c'), pair(3), group(t('d'), t('e')))), link=[t('cb')], link_error=[t('eb')]),
    'chord_links_on_linked_group_body': lambda: linked(
        chord([t('a'), t('b')], linked(group(t('c'), t('d')), link_error=[t('own')])), link_error=[t('eb')]),
    'chord_links_on_empty_group_body': lambda: linked(chord([t('a'), t('b')], group()), link=[t('cb')]),
    'chord_links_on_chain_body': lambda: linked(
        chord([t('a'), t('b')], chain(t('sum'), t('c'))), link=[t('cb')], link_error=[t('eb')]),
    'chord_links_on_chord_body': lambda: linked(chord([t('a'), t('b')], pair(3)), link=[t('cb')], link_error=[t('eb')]),
    'chord_countdown': lambda: with_options(pair(), countdown=10),
    'chord_eta': lambda: with_options(pair(), eta='2030-01-02T03:04:05+00:00'),
    'chord_queue': lambda: with_options(pair(), queue='other', priority=4),
    'chord_interval': lambda: with_options(pair(), interval=2, max_retries=5),
    'chord_id': lambda: with_options(pair(), task_id='X'),
    'chord_root': lambda: with_options(pair(), root_id='own-root', parent_id='own-parent'),
    'chord_stamped': lambda: with_options(pair(), batch='b-7', stamped_headers=['batch']),
    'chord_chain_option': lambda: with_options(pair(), chain=[t('z')]),
    'chord_args': lambda: chord([t('add'), t('add', 1)], t('sum'), args=(5, 6)),
    'chord_kwargs': lambda: chord([t('add'), t('add', 1)], t('sum'), kwargs={'kwargs': {'k': 1}}),
    'chord_immutable': lambda: chord([t('add'), t('add', 1)], t('sum'), args=(5,), immutable=True),
}

PARTS = {
    'map': lambda: xmap(t('add'), [1, 2, 3]),
    'starmap': lambda: xstarmap(t('add'), [[1, 2], [3, 4]]),
    'chunks': lambda: chunks(t('add'), [[1, 2], [3, 4], [5, 6]], 2),
    'map_with_options': lambda: linked(
        with_options(xmap(t('add'), [1, 2]), queue='other', task_id='X'), link=[t('cb')], link_error=[t('eb')]),
}

ALL = TASKS | CHAINS | GROUPS | CHORDS | PARTS

# The canvases that are frozen and applied in many ways.
FEW = (
    'task', 'task_immutable', 'task_id', 'task_stamped', 'chain_two', 'chain_one', 'chain_group_first', 'chain_group_middle',
    'chain_group_end', 'chain_group_only', 'chain_chord_end', 'chain_chord_middle', 'chain_links', 'chain_of_options',
    'group_two', 'group_empty', 'group_of_chains', 'group_of_chords', 'group_stamped', 'chord_two', 'chord_empty',
    'chord_body_chain', 'chord_body_group', 'chord_body_chord', 'chord_body_linked', 'chord_header_of_chains',
    'chord_header_of_chords', 'chord_header_group', 'chord_kwargs', 'map', 'chunks',
)

# The body of an outer chord, frozen.
OUTER = {
    'task': 't.outer', 'args': [], 'kwargs': {}, 'options': {'task_id': 'B', 'reply_to': 'OID'}, 'subtask_type': None,
    'immutable': False,
}
# What follows in an outer chain: the last task comes first.
REST = [
    {**OUTER, 'task': 't.last', 'options': {'task_id': 'Z', 'reply_to': 'OID'}},
    {**OUTER, 'task': 't.next', 'options': {'task_id': 'Y', 'reply_to': 'OID'}},
]
# What a worker hands to what follows a task.
FOLLOWING = {'parent_id': 'P', 'root_id': 'R', 'priority': None}
