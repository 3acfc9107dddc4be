#!/bin/bash
# cargo-fuzz asks rustc for a sanitizer, which the stable compiler takes only with RUSTC_BOOTSTRAP=1. Every other call
# of the compiler passes through as it is.
case " $* " in
*" -Zsanitizer="*)
    RUSTC_BOOTSTRAP=1
    export RUSTC_BOOTSTRAP
    ;;
esac
exec "$@"
