# The pipeline in containers: up, files through it, and down.
# shellcheck shell=bash disable=SC2154  # $here, $home, $python, $compose and $proxies are set by the front

# Good ones of each batch; a bad one goes with them.
batch_files=100
up_secs_max=300
files_secs_max=180
stop_secs_max=150

servers=(redis postgres kafka)
one_shots=(directories migrate)
programs=(produce consume worker python-worker)

# What docker-compose.yml reads. Nothing of the caller's own settings but the names of images.
pipeline_settings() {
    unset REDIS_PASSWORD POSTGRES_PASSWORD CELERIAC_UID CELERIAC_GID
    export COMPOSE_PROJECT_NAME=celeriac-compose-test COMPOSE_FILE=docker-compose.yml FILES_DIR=$home/files
    # The engine chooses free ones.
    export POSTGRES_PORT=0 REDIS_PORT=0
    # Images under other names: those of whoever uses this engine are left alone.
    export CELERIAC_IMAGE=celeriac-compose-test PYTHON_WORKER_IMAGE=celeriac-compose-test-python
    # For root, the user that the file names stands in for everybody's own.
    if ((EUID != 0)); then export CELERIAC_UID=$EUID CELERIAC_GID=${GROUPS[0]}; fi
}

# 9 is the lock: a container's helper would hold it for ever.
compose() { "${compose[@]}" "$@" 9>&-; }

pipeline_build() {
    say "$("${compose[@]}" version | head -n 1), engine $(docker version --format '{{.Server.Version}}')"
    compose build "${proxies[@]}" >"$home/build.log" 2>&1 || die "the images could not be built, see $home/build.log"
    docker image ls --filter "reference=$CELERIAC_IMAGE" --filter "reference=$PYTHON_WORKER_IMAGE" \
        --format '{{.Repository}} {{.Size}}'
}

pipeline_up() {
    compose down --volumes >/dev/null 2>&1 || true
    rm -rf "$FILES_DIR"
    # The engine makes what is missing, as root; only root can delete that again.
    ((EUID == 0)) || mkdir -p "$FILES_DIR"
    compose up -d >"$home/up.log" 2>&1 || die "up failed, see $home/up.log"
    eventually "$up_secs_max" all_are_healthy
    report_states
}

container_of() {
    docker ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
        --filter "label=com.docker.compose.service=$1"
}

health_of() { docker inspect --format '{{.State.Health.Status}}' "$(container_of "$1")"; }

exit_code_of() { docker inspect --format '{{.State.ExitCode}}' "$(container_of "$1")"; }

status_of() { docker inspect --format '{{.State.Status}}' "$(container_of "$1")"; }

all_are_healthy() {
    local name
    for name in "${servers[@]}" "${programs[@]}"; do
        [[ $(health_of "$name") == healthy ]] || { missing="$name is $(health_of "$name")" && return 1; }
    done
}

# Waits until "$2…" is true, at most $1 seconds; what is missing it leaves in $missing.
eventually() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS <= deadline)) || die "$* is not true: ${missing:-}"
        sleep 1
    done
}

report_states() {
    local name
    printf '%-14s %-32s %-10s %-8s %s\n' service image state health user
    for name in "${servers[@]}" "${one_shots[@]}" "${programs[@]}"; do
        docker inspect --format '{{.Config.Image}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}} {{or .Config.User "-"}}' \
            "$(container_of "$name")" | {
            read -r image state health user
            printf '%-14s %-32s %-10s %-8s %s\n' "$name" "$image" "$state" "$health" "$user"
        }
    done
}

ask() {
    compose exec -T postgres psql --username=celeriac --dbname=celeriac --no-psqlrc --quiet --tuples-only --no-align \
        --field-separator=$'\t' --command="$1" </dev/null
}

pipeline_files() {
    : >"$home/expected.tsv"
    drop early
    eventually "$files_secs_max" all_have_a_fate
    found_as_expected
    check_quarantine
    check_fleet
    check_readme
    ask "select state || ': ' || count(*) || ' files' from ingest_files group by state order by state"
    ask "select 'rows: ' || count(*) || ', aggregates: ' || (select count(*) from aggregated_metrics) from raw_sensor_data"
}

# A batch whose names begin with $1.
drop() { "$python" "$here/drop_files.py" "$FILES_DIR/data" "$1" "$batch_files" >>"$home/expected.tsv"; }

# Rows as they are counted, not as the ledger says.
found_as_expected() {
    ask "select f.file_name, f.state, (select count(*) from raw_sensor_data r
             where f.state = 'loaded' and r.content_id = f.content_id)
         from ingest_files f order by f.file_name" >"$home/found.tsv"
    LC_ALL=C diff <(LC_ALL=C sort "$home/expected.tsv") <(LC_ALL=C sort "$home/found.tsv") ||
        die 'the files did not end as they should: < expected, > found'
}

all_have_a_fate() {
    local found dropped
    dropped=$(wc -l <"$home/expected.tsv")
    found=$(ask "select count(*) from ingest_files where state <> 'quarantined' or moved_at is not null")
    missing="$found of $dropped files have a row"
    ((found >= dropped))
}

check_quarantine() {
    local bad=early_overheated.csv
    [[ -f $FILES_DIR/quarantine/$bad && -f $FILES_DIR/quarantine/$bad.error.json ]] ||
        die 'the bad file or its report is not in quarantine'
    [[ ! -e $FILES_DIR/data/$bad ]] || die 'the bad file still lies in data'
    grep -q "Quarantined .*$bad" "$FILES_DIR/logs/errors.log" || die 'logs/errors.log does not name the bad file'
}

# Each language has run a part of it; every container's process is somebody other than root.
check_fleet() {
    local name count uid
    for name in worker python-worker; do
        count=$(docker logs "$(container_of "$name")" 2>&1 | grep -c 'process_file_task\[.*succeeded' || true)
        say "$name ran $count"
        ((count > 0)) || die "$name ran no task"
    done
    for name in "${programs[@]}"; do
        uid=$(compose exec -T "$name" stat --format=%u /proc/1 </dev/null)
        ((uid != 0)) || die "$name runs as root"
    done
}

# What the README has one type while it runs, as it stands there.
check_readme() {
    local command line section
    section=$(sed -n '/^## In containers/,/^## [^I]/p' "$checkout/README.md")
    for command in ps exec logs; do
        line=$(grep "^docker-compose $command " <<<"$section") || die "README.md, In containers: where is $command?"
        bash -c "${line/docker-compose/${compose[*]}}" >"$home/readme.log" 2>&1 </dev/null 9>&- ||
            die "this command of README.md failed: $line (see $home/readme.log)"
        [[ -s $home/readme.log ]] || die "this command of README.md shows nothing: $line"
    done
    say "The README's commands work."
}

# TERM to each in the middle of its work, in turn of their dependence; ours end with 0, and Java with 143 after it.
pipeline_stop() {
    local name expected failed=
    drop late
    timeout "$stop_secs_max" "${compose[@]}" stop >"$home/stop.log" 2>&1 9>&- || die "stop failed, see $home/stop.log"
    printf '%-14s %s\n' service 'exit code'
    for name in "${servers[@]}" "${one_shots[@]}" "${programs[@]}"; do
        expected=0
        [[ $name != kafka ]] || expected=143
        printf '%-14s %s\n' "$name" "$(exit_code_of "$name")"
        [[ $(status_of "$name") == exited && $(exit_code_of "$name") == "$expected" ]] || failed=$name
    done
    [[ -z $failed ]] || die "$failed did not end as it should"
    check_warm
}

# The workers have said that they stop warmly.
check_warm() {
    local name
    for name in worker python-worker; do
        docker logs "$(container_of "$name")" 2>&1 | grep -q 'Warm shutdown' || die "$name did not stop warmly"
    done
}

# The volumes and the producer's journal have outlived the containers' stop: what was left is done, and what was done is
# known.
pipeline_again() {
    compose up -d >>"$home/up.log" 2>&1 || die "the second up failed, see $home/up.log"
    eventually "$up_secs_max" all_are_healthy
    cp "$FILES_DIR/data/early_000.csv" "$FILES_DIR/data/again.csv.part"
    mv "$FILES_DIR/data/again.csv.part" "$FILES_DIR/data/again.csv"
    printf 'again.csv\tduplicate\t0\n' >>"$home/expected.tsv"
    eventually "$files_secs_max" all_have_a_fate
    found_as_expected
    ask "select state || ': ' || count(*) || ' files' from ingest_files group by state order by state"
}

pipeline_tails() {
    local name
    for name in "${servers[@]}" "${one_shots[@]}" "${programs[@]}"; do
        [[ -n $(container_of "$name") ]] || continue
        printf '\n=== end of %s\n' "$name"
        docker logs --tail 15 "$(container_of "$name")" 2>&1
    done
}

pipeline_down() {
    compose down --volumes --timeout 10 >/dev/null 2>&1 || true
    rm -rf "$FILES_DIR"
}
