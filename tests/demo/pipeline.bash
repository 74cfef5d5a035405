# The demo's own processes: starting, watching, ending. Their logs are .celeriac/demo/NAME.log.
# shellcheck shell=bash disable=SC2154  # $demo, $here and $python are set by the front

# Generous, for a machine whose cores are busy with something else.
ready_deadline_secs=60
stall_deadline_secs=120
stop_deadline_secs=60
tail_lines=25

declare -A pids=()
launched=()

# Starts "$2…" as $1 in the demo's directory. In a session of its own, so that Ctrl+C reaches this script only, which
# then ends everything in order; if the script itself is killed, the kernel ends its processes.
launch() {
    local name=$1
    shift
    (cd "$demo" && exec setsid setpriv --pdeathsig TERM -- "$@") </dev/null >>"$demo/$name.log" 2>&1 9>&- &
    pids[$name]=$!
    launched+=("$name")
}

start_pipeline() {
    launch worker celeriac -A worker.tasks worker --loglevel=info
    # The same command and the same queue, in Python.
    launch python_worker env PYTHONPATH="$PWD/python_interop" "$CELERIAC_PYTHON" -m celery -A worker.tasks worker \
        --loglevel=info -n python@%h
    launch consumer celeriac consume --loglevel=info
    launch producer celeriac produce --loglevel=info
    await_line worker ' ready\.'
    await_line python_worker ' ready\.'
    await_line consumer 'Consuming topic '
    await_line producer 'Watching '
    printf '%-48s runs, see %s\n' 'celeriac produce --loglevel=info' "$demo/producer.log" \
        'celeriac consume --loglevel=info' "$demo/consumer.log" \
        'celeriac -A worker.tasks worker --loglevel=info' "$demo/worker.log" \
        'celery -A worker.tasks worker --loglevel=info' "$demo/python_worker.log"
}

await_line() {
    local name=$1 pattern=$2 deadline=$((SECONDS + ready_deadline_secs))
    until grep -q "$pattern" "$demo/$name.log"; do
        check_alive
        ((SECONDS < deadline)) || die "the $name did not get ready in $ready_deadline_secs s"
        sleep 0.1
    done
}

check_alive() {
    local name
    for name in worker python_worker consumer producer; do
        [[ -z ${pids[$name]:-} ]] || kill -0 "${pids[$name]}" 2>/dev/null || die "the $name has ended by itself"
    done
}

# Drops the files and shows what becomes of them, until every one has its fate.
watch_files() {
    local line shown='' since=$SECONDS started=$SECONDS
    launch files "$python" -B "$PWD/$here/drop_files.py" data staging files.tsv
    say '   s   announced   loaded  duplicate  quarantined        rows'
    while :; do
        check_alive
        line=$(progress)
        if [[ $line != "$shown" ]]; then
            # shellcheck disable=SC2086  # five numbers
            printf "%4d %11d %8d %10d %12d %11d\n" $((SECONDS - started)) $line
            shown=$line since=$SECONDS
        fi
        if all_dropped && all_have_their_fate; then return; fi
        ((SECONDS - since < stall_deadline_secs)) || die "nothing has moved for $stall_deadline_secs s"
        sleep 1
    done
}

progress() {
    printf '%s ' "$(grep -c 'Announced ' "$demo/producer.log")"
    ask "select count(*) filter (where state = 'loaded'), count(*) filter (where state = 'duplicate'),
                count(*) filter (where state = 'quarantined' and moved_at is not null),
                (select coalesce(sum(row_count), 0) from ingest_content) from ingest_files"
}

all_dropped() {
    [[ -n ${pids[files]:-} ]] || return 0
    kill -0 "${pids[files]}" 2>/dev/null && return 1
    wait "${pids[files]}" || die 'the files could not be made'
    unset 'pids[files]'
}

all_have_their_fate() {
    local expected
    expected=$(grep -cv $'\tignored\t' "$demo/files.tsv")
    (($(ask "select count(*) from ingest_files where state <> 'quarantined' or moved_at is not null") >= expected))
}

# As an operator would: TERM, wait for a clean end. Nothing may be left behind in Redis.
stop_pipeline() {
    local name code left
    for name in producer consumer worker python_worker; do
        kill -s TERM "${pids[$name]}"
        await_end "$name" || die "the $name did not stop within $stop_deadline_secs s"
        code=0
        wait "${pids[$name]}" || code=$?
        unset "pids[$name]"
        ((code == 0)) || die "the $name ended with exit code $code"
        printf '%-13s stopped, exit code 0\n' "$name"
    done
    left="$(redis-cli -u "$CELERY_BROKER_URL" llen celery) queued, $(redis-cli -u "$CELERY_BROKER_URL" hlen unacked) unacknowledged"
    say "in Redis: $left"
    [[ $left == '0 queued, 0 unacknowledged' ]] || die 'messages were left behind in Redis'
}

await_end() {
    local deadline=$((SECONDS + stop_deadline_secs))
    while kill -0 "${pids[$1]}" 2>/dev/null; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# At the end of the script, whatever has happened: politely, then with force.
end_processes() {
    local name
    for name in "${!pids[@]}"; do kill -s TERM "${pids[$name]}" 2>/dev/null || true; done
    for name in "${!pids[@]}"; do
        await_end "$name" || kill -s KILL "${pids[$name]}" 2>/dev/null || true
        wait "${pids[$name]}" 2>/dev/null || true
    done
}

show_tails() {
    local name log
    for name in "${launched[@]}"; do
        log=$demo/$name.log
        [[ -s $log ]] || continue
        printf '\n=== end of %s\n' "$log"
        tail -n "$tail_lines" "$log"
    done
}

# The SQL is in a file of its own; it fails where anything is not as it must be.
report() {
    (cd "$demo" && psql -Xq -v ON_ERROR_STOP=1 -P footer=off -P null='' "$DATABASE_URL" -f "$checkout/$here/report.sql")
    check_quarantine
}

# The two workers' own words, and that each of them had its part.
who_ran_what() {
    local name count
    printf '%-15s %5s   %s\n' worker tasks 'the first of them'
    for name in worker python_worker; do
        count=$(grep -c '\] succeeded in ' "$demo/$name.log") || die "the $name has run no task"
        printf '%-15s %5d   %s\n' "$name" "$count" "$(grep -m 1 -o 'Task .*\] succeeded in [0-9.]*s' "$demo/$name.log")"
    done
}

# Each bad file lies there with its report, and no longer where it was.
check_quarantine() {
    local name bad
    mapfile -t bad < <(awk -F '\t' '$2 == "quarantined" { print $1 }' "$demo/files.tsv")
    for name in "${bad[@]}"; do
        [[ ! -e $demo/data/$name ]] || die "$name is still in the watch directory"
        [[ -e $demo/quarantine/$name ]] || die "$name is not in quarantine"
        [[ -s $demo/quarantine/$name.error.json ]] || die "$name.error.json is not in quarantine"
    done
    say "${#bad[@]} files are in $demo/quarantine, each with its report (NAME.error.json)"
}
