# Apache Kafka: one node that is broker and controller (KRaft), run from the jars of Maven Central.
# shellcheck shell=bash disable=SC2154  # $state, $here and $downloads are set by the front

java_oldest=17

kafka_packages() {
    [[ -n $(java_program) ]] ||
        echo 'openjdk-17-jre-headless|openjdk-21-jre-headless|openjdk-25-jre-headless|default-jre-headless'
    kafka_is_fetched || command -v mvn >/dev/null || echo maven
}

# JAVA_HOME's, the PATH's or Debian's java, the first that is new enough.
java_program() {
    local java
    for java in "${JAVA_HOME:-}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
        if [[ -x $java && $(java_version "$java") -ge $java_oldest ]]; then
            printf '%s' "$java"
            return
        fi
    done
}

# 17 of `openjdk version "17.0.15" …`; 1 of Java 8, which calls itself 1.8; 0 of what does not answer.
java_version() {
    local said
    said=$("$1" -version 2>&1) || true
    if [[ $said =~ version\ \"([0-9]+) ]]; then printf '%s' "${BASH_REMATCH[1]}"; else printf 0; fi
}

kafka_version() { sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/kafka/pom.xml"; }

kafka_libs() { printf '%s/kafka/%s/libs' "$downloads" "$(kafka_version)"; }

kafka_is_fetched() { [[ -d $(kafka_libs) ]]; }

# Fetched beside and then renamed: an interrupted download leaves nothing that looks finished.
kafka_fetch() {
    local libs unfinished
    libs=$(kafka_libs)
    unfinished=$libs.unfinished
    say kafka "fetching the jars of Kafka $(kafka_version)"
    rm -rf "$unfinished"
    mkdir -p "$unfinished"
    mvn --batch-mode --quiet -Dstyle.color=never --no-transfer-progress --file "$here/kafka/pom.xml" \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$unfinished" ||
        die "Maven could not fetch Kafka (see above); behind a proxy it wants ~/.m2/settings.xml"
    mv "$unfinished" "$libs"
}

kafka_prepare() {
    kafka_is_fetched || kafka_fetch
    mkdir -p "$state/kafka"
}

# Ports may change between two starts, so the settings are written at each.
kafka_run() {
    kafka_settings >"$state/kafka/server.properties"
    [[ -e $state/kafka/data/meta.properties ]] || kafka_format
    # Meant for little memory and a quick start.
    exec "$(java_program)" -Xms64m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        -Dorg.slf4j.simpleLogger.showDateTime=true -Dorg.slf4j.simpleLogger.dateTimeFormat='yyyy-MM-dd HH:mm:ss,SSS' \
        -Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn \
        -cp "$(kafka_libs)/*" kafka.Kafka "$state/kafka/server.properties"
}

kafka_format() {
    # 22 characters of base64 for URLs; the first is given, because a leading '-' would read as an option.
    local cluster
    cluster=c$(head -c 32 /dev/urandom | base64 -w 0 | tr '+/' '-_' | cut -c 1-21)
    "$(java_program)" -XX:TieredStopAtLevel=1 -cp "$(kafka_libs)/*" \
        kafka.tools.StorageTool format --config "$state/kafka/server.properties" --cluster-id "$cluster"
}

kafka_settings() {
    cat <<SETTINGS
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$(port_of kafka),CONTROLLER://127.0.0.1:$(port_of kafka-controller)
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$(port_of kafka-controller)
log.dirs=$state/kafka/data
auto.create.topics.enable=true
group.initial.rebalance.delay.ms=0
# One node cannot keep three copies.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Fifty partitions of either cost seconds at every first use; here one does.
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.num.partitions=1
SETTINGS
}

# The connection may be refused, which bash reports loudly.
kafka_answers() {
    local answer
    answer=$(kafka_ask_versions 2>/dev/null) || return 1
    [[ $answer == 00000001 ]]
}

# A real exchange: ApiVersions (key 18, version 0, correlation id 1, no client id); the answer begins with the same id.
kafka_ask_versions() {
    exec 3<>"/dev/tcp/127.0.0.1/$(port_of kafka)"
    printf '\0\0\0\012\0\022\0\0\0\0\0\001\377\377' >&3
    timeout 2 head -c 8 <&3 | od -An -tx1 -j4 | tr -d ' \n'
}

kafka_env() { print_export KAFKA_BOOTSTRAP_SERVERS "$(kafka_url)"; }

kafka_url() { printf '127.0.0.1:%s' "$(port_of kafka)"; }
