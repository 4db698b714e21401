#!/bin/sh
# skeleton.sh FROM TO: copies the workspace's manifests and puts an empty program or library wherever a target stands.
# Compiling that compiles the dependencies and nothing of ours, so the image's layer with them is made again only when
# a manifest or the lock changes.
set -eu
from=$1
to=$2

mkdir -p "$to"
cp "$from/Cargo.toml" "$from/Cargo.lock" "$to/"
cd "$from"
find . -name Cargo.toml -not -path './Cargo.toml' -not -path '*/target/*' | while read -r manifest; do
    package=$(dirname "$manifest")
    mkdir -p "$to/$package"
    cp "$manifest" "$to/$package/"
    # The places where cargo looks for targets by itself; no manifest here names another one.
    for target in build.rs src/lib.rs src/main.rs; do
        [ -e "$package/$target" ] || continue
        mkdir -p "$to/$package/$(dirname "$target")"
        case $target in
        src/lib.rs) : >"$to/$package/$target" ;;
        *) echo 'fn main() {}' >"$to/$package/$target" ;;
        esac
    done
    for folder in src/bin tests benches examples; do
        [ -d "$package/$folder" ] || continue
        find "$package/$folder" -mindepth 1 -maxdepth 2 -name '*.rs' | while read -r target; do
            mkdir -p "$to/$(dirname "$target")"
            echo 'fn main() {}' >"$to/$target"
        done
    done
done
