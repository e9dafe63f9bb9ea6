#!/usr/bin/env bash
# run.sh - what CI cannot run: the CUDA backend on a GPU. Checks first, then measurements with their
# floors. Builds with the preset `cuda` where there is a compiler, else takes build/cuda as it is.
#   tests/gpu/run.sh [step...]   ops golden bf16 sanitize http perf ops_perf inverse rule
# The rest needs nothing but the programs; bf16 needs Python with torch and transformers.
set -uo pipefail
cd "$(dirname "$0")/../.."
bin=${BIN:-build/cuda}
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(ops golden bf16 sanitize http perf)
if [ ! -x "$bin/ops_check" ] || [ -n "${BUILD:-}" ]; then
    cmake --preset cuda && cmake --build --preset cuda || exit 1
fi
failed=0

run() {
    echo "== $*"
    "$@" || { failed=$((failed + 1)); echo "FAILED: $*"; }
}

for step in "${steps[@]}"; do
    case $step in
    # Every operation against its definition in double: check, poison, repeat; both activation types.
    ops)
        run "$bin/ops_check" check all --device cuda --act f32
        run "$bin/ops_check" check all --device cuda --act bf16
        ;;
    # The model against transformers: logits, greedy tokens, types, equal bits in any company.
    golden) run "$bin/model_check" check --device cuda ;;
    # What transformers itself loses in bf16 on the same tokens, beside what we lose (golden prints it).
    bf16) run python3 tests/gpu/hf_bf16.py ;;
    sanitize)
        for tool in memcheck racecheck; do
            run compute-sanitizer --tool $tool --error-exitcode 9 --kernel-regex kns=_kernel \
                "$bin/model_check" check --device cuda --quick yes
        done
        ;;
    http)
        run python3 tests/gpu/http_rates.py "$bin/deltaserve" dummy:0.8B bf16
        run python3 tests/gpu/http_rates.py "$bin/deltaserve" dummy:9B bf16
        ;;
    perf)
        for model in dummy:0.8B dummy:9B; do
            for dtype in bf16 int8; do
                run "$bin/model_check" perf --device cuda --model $model --dtype $dtype
            done
        done
        ;;
    ops_perf) run "$bin/ops_check" perf all --device cuda --act bf16 ;;
    # One layer's rule beside flash-linear-attention (fla-core); fails where ours is not the faster.
    rule) run python3 tests/gpu/delta_rule_rival.py "$bin/ops_check" ;;
    inverse) run "$bin/model_check" inverse --device cuda ;;
    *) echo "run.sh: there is no step '$step'" >&2; exit 2 ;;
    esac
done
echo "$failed steps failed"
[ "$failed" -eq 0 ]
