#!/bin/sh
# Links a Rust program for wasm32-wasip1 on a machine whose Rust comes from Debian (rustc-web, cargo-web,
# rust-web-src) and thus without the C library that rustup's target brings along: Debian's wasi-libc.
#
#   RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_WASM32_WASIP1_LINKER=tests/toolchains/wasi-ld.sh \
#     /usr/bin/cargo build --release --target wasm32-wasip1 -Z build-std=std,panic_abort
#
# WASI_LIB is the folder of wasi-libc if it is not Debian's own, WASI_LD the linker.
set -eu

library=${WASI_LIB:-/usr/lib/wasm32-wasi}

# rustc names the start files as if they were its own.
n=$#
while [ "$n" -gt 0 ]; do
    argument=$1
    shift
    case $argument in
    crt1-command.o | crt1-reactor.o) argument=$library/$argument ;;
    esac
    set -- "$@" "$argument"
    n=$((n - 1))
done

exec "${WASI_LD:-wasm-ld-19}" "$@" "-L$library" -lc
