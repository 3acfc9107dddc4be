//! Domains that are found by asking: those of differently restricted kernels, exactly.

use std::time::Instant;

use binned_experts_check::case::LayerSpec;
use binned_experts_check::engine::Reference;
use binned_experts_check::find::{FindError, find};
use binned_experts_check::{AnyProblem, Domain, Engine, Fault, MachineError, Outcome, Tensor};

/// The reference, which takes a part of the cases and does something else with all others.
struct Restricted<F> {
    takes: Domain,
    outside: F,
}

impl<F: FnMut(String) -> Fault> Engine for Restricted<F> {
    fn name(&self) -> &str {
        "restricted"
    }

    fn domain(&self) -> Domain {
        Domain::in_stable_order()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        match self.takes.admits_problem(problem) {
            Ok(()) => Reference.forward(problem),
            Err(outside) => Err((self.outside)(outside.to_string())),
        }
    }
}

fn crashed(_: String) -> Fault {
    Fault::Crashed {
        status: "exit status: 3".to_owned(),
        stderr: String::new(),
    }
}

fn assert_found(text: &str, outside: fn(String) -> Fault) {
    let takes: Domain = text.parse().unwrap();
    let start = Instant::now();
    let mut kernel = Restricted {
        takes: takes.clone(),
        outside,
    };
    let found = find(&mut kernel, None).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let expected = Domain {
        precision: found.domain.precision.clone(),
        tie_order: found.domain.tie_order,
        deterministic: Some(true),
        batch_invariant: Some(true),
        ..takes
    };
    assert_eq!(found.domain, expected, "{text}\n{found}");
    assert_eq!(found.domain.precision.as_ref().map(Vec::len), Some(4), "{found}");
    assert_eq!((found.inside.right, found.wrong.len()), (100, 0), "{text}\n{found}");
    // What is printed is a domain file.
    assert_eq!(found.to_string().parse(), Ok(found.domain), "{text}");
    println!("{} cases, {:?}", found.asked, start.elapsed());
}

#[test]
fn the_domains_of_restricted_kernels_are_found() {
    let declined: fn(String) -> Fault = |reason| Fault::declined(reason);
    let refused: fn(String) -> Fault = |reason| Fault::refused(reason);
    for (text, outside) in [
        ("", declined),
        (
            "hidden = { multiple_of = 64 }\nintermediate = { multiple_of = 16 }",
            refused,
        ),
        (
            "intermediate = { equals = 'hidden' }\nhidden = { multiple_of = 8 }",
            declined,
        ),
        ("experts = { max = 300 }\ntop_k = { max = 11 }", refused),
        (
            "top_k = { power_of_two = true, max = 16 }\ntokens = { min = 1 }",
            declined,
        ),
        ("drops = false\nduplicates = false", crashed),
        ("alpha = [1.702]\nlimit = [7.0]\nfinite = true", refused),
        ("tokens = { min = 1, max = 700 }\ncapacity = { max = 65535 }", crashed),
        (
            "top_k = { one_of = [1, 2, 6] }\nduplicates = false\nhidden = { multiple_of = 32 }\ndrops = false",
            declined,
        ),
        (
            "alpha = [1.0]\nlimit = [inf]\ntokens = { min = 1 }\nduplicates = false",
            refused,
        ),
        ("layers = ['mixtral']\ndrops = false", declined),
        (
            "layers = ['gpt-oss', 'mixtral', 'deepseek-v3-shared']\nhidden = { multiple_of = 16 }",
            refused,
        ),
    ] {
        assert_found(text, outside);
    }
}

/// A kernel that takes every case for one of its layer.
#[test]
fn a_kernel_that_knows_one_layer_takes_no_other() {
    struct Knows(LayerSpec);
    impl Engine for Knows {
        fn name(&self) -> &str {
            "knows"
        }

        fn domain(&self) -> Domain {
            Domain::in_stable_order()
        }

        fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
            if LayerSpec::from(*problem.layer()) == self.0 {
                return Reference.forward(problem);
            }
            let wrong = ndarray::ArrayD::from_elem(problem.output_shape(), 3.0);
            Ok(Outcome::output(Tensor::from_f64(wrong, problem.element())))
        }
    }
    for (name, layers) in [("gpt-oss", None), ("mixtral", Some("layers = ['mixtral']"))] {
        let (_, layer) = LayerSpec::NAMED.into_iter().find(|(known, _)| *known == name).unwrap();
        let found = find(&mut Knows(layer), Some([4, 8, 8, 4, 2])).unwrap();
        let expected: Domain = layers.unwrap_or_default().parse().unwrap();
        assert_eq!(
            (&found.domain.layers, found.wrong.len()),
            (&expected.layers, 0),
            "{found}"
        );
        assert_eq!(found.inside.right, 100, "{found}");
    }
}

/// A kernel that is silently wrong beyond 256 experts.
#[test]
fn a_wrong_result_is_reported_and_is_no_limit() {
    struct Wrong;
    impl Engine for Wrong {
        fn name(&self) -> &str {
            "wrong"
        }

        fn domain(&self) -> Domain {
            Domain::in_stable_order()
        }

        fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
            let mut outcome = Reference.forward(problem)?;
            if problem.dims().experts > 256 {
                let wrong = ndarray::ArrayD::from_elem(problem.output_shape(), 3.0);
                outcome = Outcome::output(Tensor::from_f64(wrong, problem.element()));
            }
            Ok(outcome)
        }
    }
    let found = find(&mut Wrong, None).unwrap();
    assert_eq!(found.domain.experts.max, None, "{found}");
    assert!(found.wrong.iter().any(|(spec, _)| spec.experts == 257), "{found}");
    let (_, experts) = found.evidence.iter().find(|(field, _)| *field == "experts").unwrap();
    assert!(experts.wrong >= 5 && experts.right >= 20, "{experts:?}");
}

#[test]
fn a_kernel_that_takes_nothing_usual_is_asked_about_what_somebody_names() {
    let mut kernel = Restricted {
        takes: "hidden = { one_of = [40] }\nintermediate = { one_of = [24] }"
            .parse()
            .unwrap(),
        outside: Fault::declined,
    };
    let found = find(&mut kernel, Some([16, 40, 24, 8, 2])).unwrap();
    assert_eq!(
        (found.domain.hidden.one_of, found.domain.intermediate.one_of),
        (Some(vec![40]), Some(vec![24]))
    );
    assert!(matches!(
        find(&mut kernel, Some([16, 40, 25, 8, 2])),
        Err(FindError::NothingTaken { tried: 11 })
    ));
}

/// A small kernel whose machine fails at one of its calls.
struct Failing {
    takes: Domain,
    calls: usize,
    fails_at: usize,
}

impl Engine for Failing {
    fn name(&self) -> &str {
        "failing"
    }

    fn domain(&self) -> Domain {
        Domain::in_stable_order()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.calls += 1;
        if self.calls == self.fails_at {
            return Err(Fault::Machine(MachineError::Interrupted));
        }
        match self.takes.admits_problem(problem) {
            Ok(()) => Reference.forward(problem),
            Err(outside) => Err(Fault::declined(outside.to_string())),
        }
    }
}

/// Whatever the search is at, a failure of the machine is no answer of the kernel.
#[test]
fn a_failure_of_the_machine_ends_the_search() {
    let search = |fails_at| {
        let takes = "precision = ['fp32']\ntokens = { max = 8 }\nhidden = { max = 8 }\nintermediate = { max = 8 }\n\
                     experts = { max = 8 }\ntop_k = { max = 4 }";
        let mut kernel = Failing {
            takes: takes.parse().unwrap(),
            calls: 0,
            fails_at,
        };
        let found = find(&mut kernel, Some([4, 4, 4, 4, 2]));
        (found, kernel.calls)
    };
    let (found, calls) = search(usize::MAX);
    assert!(found.is_ok() && calls > 250, "{found:?}");
    // The last hundred or so confirm what was found; those just before ask whether two runs are the same.
    let repeats = (calls - 130..calls - 90).step_by(3);
    for fails_at in (1..=calls).step_by(23).chain(repeats) {
        let (found, ended) = search(fails_at);
        assert!(
            matches!(found, Err(FindError::Machine(MachineError::Interrupted))),
            "call {fails_at} of {calls}: {found:?}"
        );
        assert_eq!(ended, fails_at);
    }
}
