#!/bin/sh
# Takes the arguments of `redpanda start` as the bundle writes them, and starts nisshi with what they mean.
set -eu
[ "${1:-} ${2:-}" = "redpanda start" ] || exec "$@"

listen=0.0.0.0:9092
advertise=redpanda:9092
for argument in "$@"; do
    case $argument in
    --kafka-addr=*) listen=${argument##*://} ;;
    --advertise-kafka-addr=*) advertise=${argument##*://} ;;
    esac
done
export RUST_LOG="${RUST_LOG:-warn}"
exec nisshi broker --listener-url "tcp://$listen" --advertised-listener-url "tcp://$advertise" \
    --storage-engine sqlite://messages.db
