//! Builds the kernels for the CPU, with the feature `emulator` where a C++17 compiler is found.
//!
//! Sets `cfg(emulator_built)` on success. Without a compiler the crate builds all the same, and the variable
//! `EMULATOR_REASON` holds what `Emulator::new` answers.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(emulator_built)");
    #[cfg(feature = "emulator")]
    emulator::build();
}

#[cfg(feature = "emulator")]
mod emulator {
    use std::env;
    use std::path::PathBuf;

    pub(super) fn build() {
        println!("cargo::rerun-if-changed=kernels");
        println!("cargo::rerun-if-changed=emulator");

        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std("c++17")
            .opt_level(3)
            .include("kernels")
            .include("emulator")
            .flag_if_supported("-ffp-contract=off")
            .flag_if_supported("-Wno-unknown-pragmas")
            // Each access asks for the running thread, a variable of each thread of the operating system. It is linked
            // into the program, so its place is known when that starts, and no call has to look for it.
            .flag_if_supported("-ftls-model=initial-exec");
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
        let (kernel_files, machine_files): (Vec<PathBuf>, Vec<PathBuf>) = sources().into_iter().partition(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("kernels_")
        });
        let mut kernels = build.clone();
        kernels.files(kernel_files);
        build.files(machine_files);
        // cargo-fuzz asks rustc for the coverage that libFuzzer reads; only clang can give the same. The machine is left
        // out, since what it does hangs on draws, and comparisons are, since no byte of an input is an index of a kernel.
        if rustc_flags_contain("sancov-module") && is_clang {
            kernels.flag("-fsanitize-coverage=inline-8bit-counters,pc-table");
        }
        let library = kernels
            .try_compile_intermediates()
            .and_then(|objects| build.objects(objects).try_compile("binned_experts_emulator"));
        match library {
            Ok(()) => println!("cargo::rustc-cfg=emulator_built"),
            Err(error) => {
                let reason = error.to_string().replace('\n', " ");
                println!("cargo::warning=the kernels were not built for the CPU: {reason}");
                println!("cargo::rustc-env=EMULATOR_REASON={reason}");
            }
        }
    }

    /// The emulator's files that are compiled, each on its own.
    fn sources() -> Vec<PathBuf> {
        let files = std::fs::read_dir("emulator").into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = files
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "cpp"))
            .collect();
        files.sort();
        files
    }

    fn rustc_flags_contain(text: &str) -> bool {
        env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains(text))
    }
}
