#!/usr/bin/env bash
# run.sh - installs what is missing, builds and runs every test; what CI runs. Steps go on after a
# failure; the last lines say what failed and what was skipped, and why.
#   tests/run.sh [step...]   only these steps: style gcc clients page clang asan tsan fuzz cuda
set -uo pipefail
cd "$(dirname "$0")/.."
source deploy/packages.sh

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(style gcc clients page clang asan tsan fuzz cuda)
passed=0 failed=0 skipped=0 report=()
mkdir -p build

# count LOG: add a finished program's own closing counts, if it prints the plain line.
count() {
    local line
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$1" | tail -n 1)
    [ -n "$line" ] || line="1 passed, 0 failed"
    passed=$((passed + $(sed -E 's/^([0-9]+) passed.*/\1/' <<<"$line")))
    skipped=$((skipped + $(grep -oE '[0-9]+ skipped' <<<"$line" | grep -oE '[0-9]+' || echo 0)))
}

# check NAME COMMAND...: one step's part; its output goes to build/logs and is shown on failure.
check() {
    local name=$1 log start=$SECONDS
    shift
    mkdir -p build/logs
    log=build/logs/${name// /_}.log
    printf '%-44s' "$name"
    if "$@" >"$log" 2>&1; then
        count "$log"
        echo "ok   $((SECONDS - start)) s"
    else
        failed=$((failed + 1))
        report+=("$name")
        echo "FAIL $((SECONDS - start)) s"
        tail -n 60 "$log" | sed 's/^/    /'
    fi
    grep -hE '^(skip|SKIP)' "$log" | sort -u | sed 's/^/    /'
}

# what_failed LOG: the lines of a failed step that say what it was, for who reads only the end.
what_failed() {
    grep -E '^FAIL|\.[chu]+:[0-9]+: |SUMMARY: |runtime error|FAILED|Failed|\(crash\)|terminated|timed out' "$1" |
        grep -v '^\[[0-9]*/[0-9]*\]' | cut -c1-300 | head -n 25 | sed 's/^/    /'
}

# suite PRESET: configure, build, run everything CTest knows; counts CTest's cases.
suite() {
    check "$1 build" bash -c "cmake --preset $1 && cmake --build --preset $1"
    [ -e "build/$1/build.ninja" ] || return
    check "$1 tests" bash -c "ctest --preset $1 --output-junit junit.xml -j 2; code=\$?
        grep -hi '^skip' build/$1/Testing/Temporary/LastTest.log
        sed -nE 's/.*tests=\"([0-9]+)\".*/tests \1/p; s/.*failures=\"([0-9]+)\".*/failures \1/p; s/.*skipped=\"([0-9]+)\".*/skipped \1/p' build/$1/junit.xml 2>/dev/null | sort -u | awk '{v[\$1]=\$2} END{print v[\"tests\"]-v[\"failures\"]-v[\"skipped\"] \" passed, \" v[\"failures\"]+0 \" failed, \" v[\"skipped\"]+0 \" skipped\"}'
        exit \$code"
}

venv() {
    [ -x .venv/bin/python ] || python3 -m venv .venv || return 1
    .venv/bin/python -m pip install -q --disable-pip-version-check -r tests/requirements.txt
}

clients() {
    check "python packages" venv
    check "openai client, lm-eval" tests/clients/run.sh build/dev/deltaserve
    check "tokenizer against the tokenizers library" \
        .venv/bin/python tests/text/tokenizer_parity.py --tool build/dev/tokenize_tool
}

# The page and the reports in a browser; pictures of both are left in build/page.
page() {
    if ! need chromium chromium-driver fonts-dejavu-core; then
        echo "skip: page: chromium and chromium-driver cannot be installed here"
        skipped=$((skipped + 1))
        return
    fi
    check "python packages" venv
    check "reports in chromium" .venv/bin/python tests/page/reports.py --tool build/dev/report_tool \
        --results tests/data/results --shots build/page
    check "page in chromium" tests/page/run.sh build/dev/deltaserve
}

# A GPU asked for where there is none is an error in words, never quietly the CPU.
refuses_cuda() {
    local out
    out=$(build/cuda/deltaserve --device cuda --check 2>&1) && return 1
    grep -q 'device cuda: cuda device 0: ' <<<"$out" || { echo "$out"; return 1; }
}

# Without a GPU the backend can still be compiled and linked, where there is a compiler.
cuda() {
    if ! command -v nvcc >/dev/null; then
        echo "skip: the CUDA backend is not compiled: there is no nvcc"
        skipped=$((skipped + 1))
        return
    fi
    check "cuda build" bash -c "cmake --preset cuda && cmake --build --preset cuda --target deltaserve ops_check model_check"
    if nvidia-smi -L >/dev/null 2>&1; then
        check "cuda checks" tests/gpu/run.sh ops golden
    else
        check "cuda without a GPU" refuses_cuda
    fi
}

fuzz() {
    check "fuzz build" bash -c "cmake --preset fuzz && cmake --build --preset fuzz"
    local name names
    names=$(basename -s .c tests/fuzz/*.c)
    xargs -P 2 -I NAME bash -c 'mkdir -p build/fuzz/found/NAME
        build/fuzz/fuzz_NAME -max_total_time=8 -timeout=10 -rss_limit_mb=4096 \
            -artifact_prefix=build/fuzz/found/NAME- build/fuzz/found/NAME tests/fuzz/corpus/NAME \
            >build/fuzz/found/NAME.log 2>&1
        echo $? >build/fuzz/found/NAME.status' <<<"$names"
    for name in $names; do
        check "fuzz $name" bash -c "cat build/fuzz/found/$name.log; exit \$(cat build/fuzz/found/$name.status)"
    done
}

need "${BUILD_PACKAGES[@]}" libcriterion-dev clang clang-format libclang-rt-14-dev libomp-dev llvm \
    universal-ctags python3 python3-venv curl jq ca-certificates || exit 1
for step in "${steps[@]}"; do
    echo "== $step"
    case $step in
    style) check "style" python3 tools/check_style.py ;;
    gcc) suite dev ;;
    clients) clients ;;
    page) page ;;
    clang | asan | tsan) suite "$step" ;;
    fuzz) fuzz ;;
    cuda) cuda ;;
    *) echo "run.sh: there is no step '$step'" >&2; exit 2 ;;
    esac
done
echo "took $((SECONDS / 60)) min $((SECONDS % 60)) s"
echo "not run here: the CUDA backend's checks and measurements, which need a GPU: tests/gpu/run.sh"
for name in "${report[@]+"${report[@]}"}"; do
    echo "failed: $name"
    what_failed "build/logs/${name// /_}.log"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
