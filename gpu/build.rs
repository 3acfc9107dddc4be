//! Builds the kernels for the CPU where a C++20 compiler is found.
//!
//! Sets `cfg(host_machine)` on success. Without a compiler the crate builds all the same, and the variable
//! `HOST_MACHINE_REASON` holds what `Host::new` answers.

use std::env;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(host_machine)");
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-changed=host");

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++20")
        .opt_level(2)
        .include("kernels")
        .include("host")
        .flag_if_supported("-ffp-contract=off")
        .flag_if_supported("-Wno-unknown-pragmas");
    if env::var_os("CARGO_FEATURE_SELFTEST").is_some() {
        build.define("SIMT_SELFTEST", None);
    }
    let is_clang = build.try_get_compiler().is_ok_and(|compiler| compiler.is_like_clang());
    if rustc_flags_contain("sanitizer=address") {
        // A fake stack for each of thousands of fibers would cost ten times the run.
        build.flag(if is_clang {
            "-fsanitize-address-use-after-return=never"
        } else {
            "--param=asan-use-after-return=0"
        });
    }
    // The kernels, included by one file.
    let mut kernels = build.clone();
    kernels.file("host/launch.cpp");
    build
        .file("host/fiber.cpp")
        .file("host/scheduler.cpp")
        .file("host/order.cpp")
        .file("host/async_machine.cpp")
        .file("host/multiply.cpp");
    // cargo-fuzz asks rustc for the coverage that libFuzzer reads; only clang can give the same. The scheduler is left
    // out, since what it does hangs on draws, and comparisons are, since no byte of an input is an index of a kernel.
    if rustc_flags_contain("sancov-module") && is_clang {
        kernels.flag("-fsanitize-coverage=inline-8bit-counters,pc-table");
    }
    let library = kernels
        .try_compile_intermediates()
        .and_then(|objects| build.objects(objects).try_compile("binned_experts_host"));
    match library {
        Ok(()) => println!("cargo::rustc-cfg=host_machine"),
        Err(error) => {
            let reason = error.to_string().replace('\n', " ");
            println!("cargo::warning=the kernels were not built for the CPU: {reason}");
            println!("cargo::rustc-env=HOST_MACHINE_REASON={reason}");
        }
    }
}

fn rustc_flags_contain(text: &str) -> bool {
    env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains(text))
}
