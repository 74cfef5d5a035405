# Python with Celery, for the tests against the original: a virtual environment of python_interop/requirements.txt.
# shellcheck shell=bash disable=SC2154  # $checkout and $downloads are set by the front

python_requirements=$checkout/python_interop/requirements.txt

# ensurepip is the part that Debian leaves out of python3.
python_packages() {
    command -v "${PYTHON:-python3}" >/dev/null || echo python3
    "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

python_path() { printf '%s/venv/bin/python' "$downloads"; }

# What the environment was made from; another Python or other requirements make it anew.
python_recipe() {
    "${PYTHON:-python3}" -c 'import sys; print(sys.version)'
    cat "$python_requirements"
}

python_is_ready() { [[ -x $(python_path) ]] && cmp -s "$downloads/venv/recipe" <(python_recipe); }

python_prepare() {
    python_is_ready && return
    say python "installing python_interop/requirements.txt"
    "${PYTHON:-python3}" -m venv --clear "$downloads/venv"
    "$(python_path)" -m pip install --quiet --no-input --disable-pip-version-check -r "$python_requirements" ||
        die "pip could not install $python_requirements (see above)"
    # Written last: an interrupted installation is not ready.
    python_recipe >"$downloads/venv/recipe"
}
