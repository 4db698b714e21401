#!/bin/sh
# The operator's door: deploy.sh ARGS… runs `domicile ops ARGS…` in the folder of docker-compose.yml.
#
#   ./infrastructure/scripts/deploy.sh deploy | plan | rollback | status | history | doctor | logs
#   ./infrastructure/scripts/deploy.sh resume | abort | reconcile | lock … | migrate … | backup … | drill …
#
# There is no logic here. The deployer is a binary that every image carries: it is taken out of the image with
# `docker create` and `docker cp`, and the highest version seen is kept, so that a rollback is not driven by the tool
# of the release that is rolled back to.
#
#   --env-file FILE    the cell's variables (default: .env); several for several cells; or DOMICILE_ENV_FILE, with commas
#   DOMICILE_BIN       use this binary instead
#   DOMICILE_SOURCE    the image to take it from (default: myapp:prod)
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
cd "$top"

# Taken out of the line, wherever it stands: what runs in a cell's container knows no such option.
named='' last=''
for word; do
    shift
    case $last,$word in
        --env-file, | --env-file,-* | *,--env-file=) last=--env-file; break ;;
        --env-file,*) named=$named,$word word='' ;;
        *,--env-file) ;;
        *,--env-file=*) named=$named,${word#*=} ;;
        *) set -- "$@" "$word" ;;
    esac
    last=$word
done
[ "$last" != --env-file ] || { echo "deploy.sh: --env-file names no file" >&2; exit 2; }
[ -z "$named" ] || DOMICILE_ENV_FILE=${named#,}
if [ -n "${DOMICILE_ENV_FILE:-}" ]; then export DOMICILE_ENV_FILE; else unset DOMICILE_ENV_FILE; fi

[ -z "${DOMICILE_BIN:-}" ] || exec "$DOMICILE_BIN" ops "$@"

fail() { printf 'deploy.sh: %s\nServing now: not known. Data: unchanged. Next: %s\n' "$1" "$2" >&2; exit 4; }
command -v docker >/dev/null 2>&1 || fail "docker is not installed" \
    "install docker; or, without containers, name the binary: DOMICILE_BIN=/path/to/domicile"

source_image=${DOMICILE_SOURCE:-myapp:prod} kept=.domicile/bin part=.domicile/bin/.part.$$ # this run's own
mkdir -p "$kept"
chmod 700 .domicile

# One file per image: an image that was seen before is not unpacked again.
if id=$(docker image inspect --format '{{.Id}}' "$source_image" 2>/dev/null); then
    file=$kept/domicile-${id#sha256:}
    if [ ! -x "$file" ]; then
        container=$(docker create "$source_image") || fail "no container can be made of $source_image" \
            "mend the engine (docker info), then try again"
        trap 'rm -f "$part"; docker rm -f "$container" >/dev/null 2>&1 || true' EXIT INT TERM
        docker cp -q "$container:/usr/local/bin/domicile" "$part" 2>/dev/null || docker cp "$container:/usr/local/bin/domicile" "$part"
        docker rm -f "$container" >/dev/null
        trap - EXIT INT TERM
        chmod 755 "$part"
        mv -f "$part" "$file"
    fi
    candidate=$file
fi

# The highest version drives; of equal ones the image's own.
best=$(
    for file in ${candidate:+"$candidate"} "$kept/current"; do
        [ -x "$file" ] && printf '%s %s\n' "$("$file" --version 2>/dev/null | cut -d' ' -f2)" "$file"
    done | sort -s -t. -k1,1nr -k2,2nr -k3,3nr | head -n 1 | cut -d' ' -f2-
)
[ -n "$best" ] || fail "there is no image $source_image and no deployer from an earlier one" \
    "docker build -t $source_image ."
if [ "$best" != "$kept/current" ]; then
    cp -f "$best" "$part"
    mv -f "$part" "$kept/current"
    find "$kept" -name 'domicile-*' ! -name "${best##*/}" -exec rm -f {} +
fi

# It is linked against the libraries of its image; on a host without them nothing of it runs.
"$kept/current" --version >/dev/null 2>&1 || fail \
    "the deployer of $source_image does not run on this host: $("$kept/current" --version 2>&1 | head -n 1)" \
    "install what it names (libssl3, say), or set DOMICILE_BIN to a build for this host"

# Backups and drills run where the databases and PostgreSQL's programs are: in the cell's one-shot container; but what is
# done to the cell's own containers is done from here.
case "${1:-} ${2:-}" in
    "drill crash" | "drill rollback") service= ;;
    # These open backups: in the container that sees the private keys, as /run/secrets/offline/…
    "backup verify" | "backup restore" | "backup rekey" | "drill restore" | "drill tamper") service=restore ;;
    "backup "* | "drill "*) service=migrate ;;
    *) service= ;;
esac
[ -n "$service" ] || exec "$kept/current" ops "$@"

compose() { if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi; }
[ -t 0 ] && [ -t 1 ] || no_terminal=-T
# Every cell, whatever became of the one before it; the last failure is the exit code.
code=0 rest=${DOMICILE_ENV_FILE:-},
while [ -n "$rest" ]; do
    file=${rest%%,*} rest=${rest#*,}
    compose ${file:+--env-file "$file"} run --rm --no-deps ${no_terminal:+"$no_terminal"} "$service" ops "$@" || code=$?
done
exit "$code"
