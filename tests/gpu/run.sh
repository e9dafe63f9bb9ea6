#!/usr/bin/env bash
# run.sh - what CI cannot run: the CUDA backend on a GPU. Checks first, then measurements with their
# floors. Builds with the preset `cuda` where there is a compiler, else takes build/cuda as it is.
#   tests/gpu/run.sh [step...]   ops golden bf16 memcheck racecheck http perf ops_perf inverse rule loss load reports same
# Seconds on an H200 (2026-12-01): ops 23 (two of its three types), golden 10, memcheck 63, racecheck 365, bf16 21
# (beside racecheck), load not timed by itself, less than 70, http with the perf of its two models, perf of one more
# and ops_perf of linear together 133, rule 46 for three shapes of one
# number of heads, most of it Triton's compiling (16/64 and 2/8, 18 shapes, about 40 with that done); of 2026-11-24:
# reports 80, inverse 36. same: one of its ten jobs takes 160, so all of them 27 minutes; nobody has waited for that.
# On a node without compiler and packages, unpack what pack.sh made first. bf16 needs Python with torch and
# transformers, rule and inverse with torch, Triton and fla-core; the
# rest needs nothing but the programs.
set -uo pipefail
cd "$(dirname "$0")/../.."
bin=${BIN:-build/cuda}
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(ops golden perf reports rule inverse http same bf16 memcheck racecheck loss load ops_perf)
if [ ! -x "$bin/ops_check" ] || [ -n "${BUILD:-}" ]; then
    cmake --preset cuda && cmake --build --preset cuda || exit 1
fi
if [ -d "$bin/lib" ]; then # from pack.sh
    LD_LIBRARY_PATH=$bin/lib$(printf ':%s' /usr/local/cuda*/targets/x86_64-linux/lib)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi
failed=0

run() {
    echo "== $*"
    "$@" || { failed=$((failed + 1)); echo "FAILED: $*"; }
}

kept() { # LOG COMMAND...
    local log=$1
    shift
    "$@" | tee "$log"
}

# The engine's own rates, which the step http compares with.
perf_log() { echo "$bin/perf.$1.$2.log"; }
perf() {
    run kept "$(perf_log "$1" "$2")" "$bin/model_check" perf --device cuda --model "$1" --dtype "$2"
}

for step in "${steps[@]}"; do
    case $step in
    # Every operation against its definition in double: check, poison, repeat; all activation types.
    ops)
        run "$bin/ops_check" check all --device cuda --act f32
        run "$bin/ops_check" check all --device cuda --act bf16
        run "$bin/ops_check" check all --device cuda --act f16
        ;;
    # The model against transformers: logits, greedy tokens, types, equal bits in any company.
    golden) run "$bin/model_check" check --device cuda ;;
    # What transformers itself loses in bf16 and float16 on the same tokens, beside what we lose (golden prints it).
    bf16) run python3 tests/gpu/hf_bf16.py ;;
    # The library's kernels are left out: they are not ours to check and take ten times the time.
    memcheck)
        run compute-sanitizer --tool memcheck --error-exitcode 9 \
            --kernel-name-exclude kernel_substring=nvjet,kernel_substring=cutlass \
            "$bin/model_check" check --device cuda --quick yes
        ;;
    # Ours by name, in place of the library's too (no_library.c); and what no golden model is large enough for.
    # Kernels on clusters (cluster_product, step_kernel, sample, logprobs, int8_product) must be among those that are
    # checked, or the sanitizer fails; so RACE="few cluster step_kernel sample logprobs int8_product" for one of ours.
    racecheck)
        own=$(printf ',kernel_substring=%s' ${RACE:-few cluster wide chain_kernel prepare default_kernel general_kernel \
            any_kernel row_kernel step_kernel decode combine prefill attend split_kernel sample logprobs gather embed \
            rmsnorm gated_norm conv_kernel quantize silu_mul convert int8_product plain_ residual_kernel})
        race=(env LD_PRELOAD="$bin/no_library.so" compute-sanitizer --tool racecheck --error-exitcode 9 --kernel-name)
        run "${race[@]}" "${own:1}" "$bin/model_check" check --device cuda --quick brief
        run "${race[@]}" kernel_substring=box_source,kernel_substring=cluster,kernel_substring=int8_product \
            "$bin/ops_check" check linear --device cuda --act bf16
        ;;
    http)
        for model in dummy:0.8B dummy:9B; do
            log=$(perf_log $model bf16)
            [ -e "$log" ] || perf $model bf16
            run python3 tests/gpu/http_rates.py "$bin/deltaserve" $model bf16 --perf "$log"
        done
        ;;
    perf)
        for model in dummy:0.8B dummy:9B; do
            for dtype in bf16 f16 int8; do
                perf $model $dtype
            done
            run "$bin/model_check" perf --device cuda --model $model --dtype bf16 --state-dtype bf16
        done
        ;;
    ops_perf) run "$bin/ops_check" perf all --device cuda --act bf16 ;;
    # One layer's rule beside flash-linear-attention (fla-core); fails where ours is not the faster.
    rule) run python3 tests/gpu/delta_rule_rival.py "$bin/ops_check" ;;
    # The inversion alone: every method, type and executor with its error, beside solve_tril of the same.
    inverse)
        run "$bin/ops_check" inverse --device cuda
        run env FLA_DISABLE_BACKEND_DISPATCH=1 python3 tests/gpu/inverse_rival.py
        ;;
    # What each inverse does to the bundled model's loss and recall, in both types of weights.
    loss)
        run "$bin/model_check" inverse --device cuda --dtype bf16
        run "$bin/model_check" inverse --device cuda --dtype int8
        ;;
    # A checkpoint of the 4B shape, written for this, beside its disk.
    load) run python3 tests/gpu/load_rate.py "$bin/deltaserve" ;;
    # The example reports of deploy/reports.
    reports)
        run python3 tests/gpu/jobs_report.py "$bin/deltaserve" bundled cuda deploy/reports \
            'h200-bundled-kernels=kernel_benchmark:{"ops": ["gdn_inverse", "gdn_prefill"], "chunks": [64], "executors": ["fused", "cublas"], "caches": ["warm"], "types": ["fp32", "fp16", "int8"], "rounds": 2, "seconds_max": 0.1}' \
            'h200-bundled-accuracy=accuracy_report:{}'
        run python3 tests/gpu/jobs_report.py "$bin/deltaserve" dummy:9B cuda deploy/reports \
            'h200-9b-kernels=kernel_benchmark:{"ops": ["gdn_inverse", "gdn_decode"], "tokens": [4096], "chunks": [64], "batches": [1, 64], "executors": ["fused", "cublas"], "caches": ["warm"], "types": ["fp32", "fp16", "int8"], "rounds": 2, "seconds_max": 0.1}' \
            'h200-9b-accuracy=accuracy_report:{"source": "random", "tokens": 2048, "context": 2048, "recall_items": 0, "settings": ["auto/fp32", "auto/int8", "paper/fp32"], "layer_pieces": 1, "layer_heads": 1, "invariance": false}'
        ;;
    # Are identical jobs called the same, and 5 % more work slower?
    same)
        "$bin/deltaserve" --model bundled --device cuda --port 18082 --jobs-db :memory: >/dev/null 2>&1 &
        run python3 tests/jobs/same.py --url http://127.0.0.1:18082 --spec '{"tokens": 20480}'
        kill %% && wait %%
        ;;
    *) echo "run.sh: there is no step '$step'" >&2; exit 2 ;;
    esac
done
echo "$failed steps failed"
[ "$failed" -eq 0 ]
