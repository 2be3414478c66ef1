#!/bin/sh
# Links a Rust program for wasm32-wasip1 on a machine whose Rust comes from Debian (rustc-web, cargo-web,
# rust-web-src) and thus without the C library that rustup's target brings along: Zig's. WASI_LIB is a folder with its
# crt1-command.o, libc.a, libzigc.a and libcompiler_rt.a; WASI_LD is the linker.
#
#   RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_WASM32_WASIP1_LINKER=tests/toolchains/wasi-ld.sh \
#     /usr/bin/cargo build --release --target wasm32-wasip1 -Z build-std=std,panic_abort
set -eu

library=${WASI_LIB:?the folder of the C library for WASI}

# rustc names the start files as if they were its own.
n=$#
while [ "$n" -gt 0 ]; do
    argument=$1
    shift
    case $argument in
    crt1-command.o) argument=$library/$argument ;;
    esac
    set -- "$@" "$argument"
    n=$((n - 1))
done

exec "${WASI_LD:-wasm-ld-19}" "$@" "-L$library" -lc -lzigc -lcompiler_rt
