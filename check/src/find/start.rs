//! The cases that are asked about first.

use super::probe::plain;
use crate::case::{CaseSpec, ElementType, LayerSpec};

/// The most elements of a matrix of all experts, halved, in a case that is tried first.
const MOST_WEIGHTS: usize = 1 << 23;

/// Plain cases of each layer, the most usual first.
pub(super) fn starts(element: ElementType, start: Option<[usize; 5]>) -> Vec<CaseSpec> {
    let shapes: Vec<[usize; 5]> = match start {
        Some(start) => vec![start],
        None => {
            let widths = [(256, 256), (64, 64), (128, 128), (64, 256), (1024, 1024), (16, 16)];
            let experts = [(8, 2), (8, 1), (64, 8), (4, 4), (2, 1), (1, 1)];
            let mut shapes = Vec::new();
            for tokens in [16, 1, 64] {
                for (hidden, inner) in widths {
                    shapes.extend(experts.map(|(experts, top_k)| [tokens, hidden, inner, experts, top_k]));
                }
            }
            shapes.retain(|[_, hidden, inner, experts, _]| hidden * inner * experts <= MOST_WEIGHTS);
            shapes
        }
    };
    let mut specs = Vec::new();
    for sizes in &shapes {
        for (alpha, limit) in [(1.702, 7.0), (1.0, f64::INFINITY)] {
            specs.push(CaseSpec {
                alpha,
                limit,
                ..plain(element, *sizes)
            });
        }
    }
    // Few of the others: who takes nothing may crash on each, and be started anew.
    let others = LayerSpec::NAMED.into_iter().map(|(_, layer)| layer);
    for layer in others.filter(|layer| !layer.is_default()) {
        let few = shapes.iter().filter(|[tokens, ..]| *tokens == shapes[0][0]);
        specs.extend(few.map(|sizes| CaseSpec {
            layer,
            ..plain(element, *sizes)
        }));
    }
    specs
}
