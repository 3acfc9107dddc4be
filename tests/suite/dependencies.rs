//! The arrows between the crates, and what the judge leaves out, as cargo has them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::trials::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(&[], crates_depend_on_those_below),
        trial(&[], the_judge_needs_no_command_line_gpu_or_compiler),
    ]
}

fn crates_depend_on_those_below() {
    let arrows = [
        ("binned-experts", &["check", "gpu", "reference"][..]),
        ("binned-experts-check", &["reference"]),
        ("binned-experts-gpu", &["reference"]),
        ("binned-experts-reference", &[]),
    ];
    let graph = Graph::new();
    for (name, expected) in arrows {
        let ours = graph.0[name]
            .iter()
            .filter_map(|name| name.strip_prefix("binned-experts-"));
        assert_eq!(ours.collect::<Vec<_>>(), expected, "{name}");
    }
}

fn the_judge_needs_no_command_line_gpu_or_compiler() {
    let needed = Graph::new().below("binned-experts-check");
    for name in ["cc", "clap", "cudarc", "indicatif"] {
        assert!(!needed.contains(name), "found {name}");
    }
    // The graph is read: what the judge does need is there.
    assert!(needed.contains("safetensors"), "{needed:?}");
}

/// What each package needs directly to be built and run, by name; not what its tests need.
struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    /// For this machine, so that cargo has every package at hand.
    fn new() -> Graph {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let rustc = Command::new("rustc").arg("-vV").output().unwrap();
        let about = String::from_utf8(rustc.stdout).unwrap();
        let target = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let output = Command::new(cargo)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args([
                "metadata",
                "--format-version=1",
                "--offline",
                "--locked",
                "--all-features",
            ])
            .args(["--filter-platform", target])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let names: BTreeMap<String, String> = list(&metadata["packages"])
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let needed = |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let below = list(&node["deps"]).into_iter().filter(needed);
            let below = below.map(|dependency| names[&text(&dependency["pkg"])].clone());
            graph
                .entry(names[&text(&node["id"])].clone())
                .or_default()
                .extend(below);
        }
        Graph(graph)
    }

    /// All that a package needs.
    fn below(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(name) = open.pop() {
            let below = self.0[&name].iter().filter(|name| found.insert((*name).clone()));
            open.extend(below.cloned().collect::<Vec<_>>());
        }
        found
    }
}
