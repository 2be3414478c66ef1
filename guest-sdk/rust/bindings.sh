#!/bin/sh
# Regenerates src/bindings/ from the contract in wit/. Run it after every change there:
#
#     cargo install wit-bindgen-cli --version 0.63.0 --locked --no-default-features --features rust
#     guest-sdk/rust/bindings.sh
#
# WIT_BINDGEN names the tool if it is not on the PATH.
set -eu
cd "$(dirname "$0")"
wit_bindgen=${WIT_BINDGEN:-wit-bindgen}
out=src/bindings
types=crate::bindings::worker::sandhog::worker

"$wit_bindgen" rust ../../wit --world worker --out-dir "$out" --format \
    --pub-export-macro --export-macro-name __export_worker \
    --default-bindings-module sandhog_guest::__private::worker
# The batch world's types and imports are those of the first world, so that one set of conversions serves both.
"$wit_bindgen" rust ../../wit --world batch-worker --out-dir "$out" --format \
    --pub-export-macro --export-macro-name __export_batch_worker \
    --default-bindings-module sandhog_guest::__private::batch_worker \
    --with "sandhog:worker/types@0.1.0=$types::types" \
    --with "sandhog:worker/sender@0.1.0=$types::sender" \
    --with "sandhog:worker/crash@0.1.0=$types::crash"
cat ../../wit/*.wit > "$out/contract.wit"
# Each world of its own, so that a handler carries the description of what it may use and of nothing else.
for world in platform http config keyvalue; do
    "$wit_bindgen" rust wit --world "$world" --out-dir "$out" --format --generate-all
done
