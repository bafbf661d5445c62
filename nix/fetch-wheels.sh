#!/bin/sh
# Download every wheel that requirements.lock names for x86_64 Linux and CPython 3.12, by hash: fetch-wheels.sh LOCK DIR
#
# nix/wheelhouse.nix runs it inside of Nix, and the tests run it outside: the same words give the same files, and so the
# same hash. Which of several wheels pip takes is said here, not left to the machine. PYTHON names a python with pip.
set -eu
lock=$1 directory=$2
wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
# llama.cpp is published as source only: nix/llama-source.nix.
sed '/^llama-cpp-python==/,/[^\\]$/d' "$lock" >"$wanted"
set --
for platform in manylinux_2_34 manylinux_2_31 manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 \
    manylinux2014 manylinux_2_12 manylinux2010 manylinux_2_5 manylinux1; do
    set -- "$@" --platform "${platform}_x86_64"
done
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-input \
    --require-hashes --no-deps --only-binary :all: \
    --implementation cp --python-version 3.12 --abi cp312 --abi abi3 --abi none "$@" \
    --requirement "$wanted" --dest "$directory"
