#!/bin/sh
# setup.sh VENV runtime|dev|bench [PYTHON]: make or update VENV from the hashed lock files, then set its stamp.
# Run from the top of the checkout, by make. It writes nothing outside VENV and pip's temporary files.
set -eu
venv=$1 what=$2 wanted=${3:-}
here=$(pwd -P)
fits='import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'

find_python() {
    for name in ${wanted:+"$wanted"} python3.13 python3.12 python3.11 python3; do
        if "$name" -c "$fits" >/dev/null 2>&1; then
            echo "$name"
            return
        fi
        [ -z "$wanted" ] || break
    done
    echo "Python 3.11 or newer with venv is needed${wanted:+ and $wanted is not that}: install it (Debian, Ubuntu:" \
        "apt install python3 python3-venv) or name one: make PYTHON=/path/to/python3" >&2
    return 2
}

usable() { # runs, and was made for this folder: a moved or copied one still points to the old place
    "$venv/bin/python" -c 'import pip' >/dev/null 2>&1 && [ "$(cat "$venv/.folder" 2>/dev/null)" = "$here" ]
}

if [ -L "$venv" ]; then
    echo "$venv is a link: used as it is"
    touch "$venv/.$what"
    exit
fi

start=$(date +%s)
if ! usable; then
    python=$(find_python)
    "$python" -m venv --clear "$venv"
    echo "$here" >"$venv/.folder"
fi
echo "Installing the $what requirements with $("$venv/bin/python" -V) into $venv (once, a minute or so) ..."
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input --no-cache-dir -qq "$@"; }
pip install --require-hashes -r requirements/build.txt -r "requirements/$what.txt"
pip install --no-deps --no-build-isolation -e .
touch "$venv/.$what"
echo "... done in $(($(date +%s) - start)) s"
