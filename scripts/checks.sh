# Sourced by scripts/check and scripts/test: every check runs, whatever the earlier ones said.
failed=""

step() {
    printf '\n== %s\n' "$*"
}

run_check() {
    step "$*"
    .venv/bin/python -m "$@" || failed="$failed $1"
}

run_static_checks() {
    run_check ruff format --check .
    run_check ruff check .
    run_check mypy
    step lint-imports
    .venv/bin/lint-imports || failed="$failed lint-imports"
    [ -z "$failed" ] || printf '\nFailed so far:%s (the tests go on)\n' "$failed"
}

finish() {
    [ -z "$failed" ]
    exit
}
