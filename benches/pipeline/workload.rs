//! The workloads of the seed's benchmark and their inputs.

use std::sync::Arc;

use binned_experts_reference::{Error, ExpertWeights, Problem, expert_capacity};
use ndarray::{Array, Array2, Array3, Dimension, ShapeBuilder};

/// Sizes of a workload. K is always 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) batch: usize,
    pub(crate) sequence: usize,
    pub(crate) experts: usize,
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
}

pub(crate) const TOP_K: usize = 2;
const SEED: u64 = 0;

impl Workload {
    /// The seed's eight, in its order.
    pub(crate) fn of_seed() -> Vec<Workload> {
        Workload::grid([512, 1024], 2880)
    }

    /// As many small ones, which take the same paths in a moment.
    pub(crate) fn tiny() -> Vec<Workload> {
        Workload::grid([16, 32], 48)
    }

    fn grid(sequences: [usize; 2], width: usize) -> Vec<Workload> {
        let mut workloads = Vec::new();
        for batch in [1, 4] {
            for sequence in sequences {
                workloads.extend([2, 4].map(|experts| Workload {
                    batch,
                    sequence,
                    experts,
                    hidden: width,
                    intermediate: width,
                }));
            }
        }
        workloads
    }

    /// As in `cuda_B1_S512_E2`, without the device.
    pub(crate) fn name(&self) -> String {
        format!("B{}_S{}_E{}", self.batch, self.sequence, self.experts)
    }

    /// Operations of the products: 2·R·H·3I for R kept rows.
    pub(crate) fn operations(&self, kept: usize) -> f64 {
        [2, kept, self.hidden, 3, self.intermediate]
            .iter()
            .map(|&factor| factor as f64)
            .product()
    }

    /// Weights for every workload of these sizes: projections 0.1·randn, biases 0.01·randn.
    pub(crate) fn weights(&self) -> Result<Arc<ExpertWeights<f32>>, Error> {
        let Workload {
            experts,
            hidden,
            intermediate,
            ..
        } = *self;
        let mut random = Random::new(SEED, experts as u64);
        let weights = ExpertWeights::new(
            random.normals((experts, hidden, 2 * intermediate), 0.1),
            random.normals((experts, 2 * intermediate), 0.01),
            random.normals((experts, intermediate, hidden), 0.1),
            random.normals((experts, hidden), 0.01),
        )?;
        Ok(Arc::new(weights))
    }

    /// Tokens 0.1·randn; experts uniform and independent, so that a token can have one twice; routing weights the
    /// softmax over the experts of uniform numbers.
    pub(crate) fn problem(&self, weights: &Arc<ExpertWeights<f32>>) -> Result<Problem<f32>, Error> {
        let Workload {
            batch,
            sequence,
            experts,
            hidden,
            ..
        } = *self;
        let tokens = batch * sequence;
        let mut random = Random::new(SEED, (tokens * 1000 + experts) as u64);
        let hidden_states = random.normals((batch, sequence, hidden), 0.1);
        let router_indices = Array2::from_shape_simple_fn((tokens, TOP_K), || random.below(experts));
        let mut routing_weights = Array3::from_shape_simple_fn((batch, sequence, experts), || random.uniform().exp());
        for mut row in routing_weights.rows_mut() {
            let sum = row.sum();
            row /= sum;
        }
        let capacity = expert_capacity(tokens, experts, TOP_K)?;
        Problem::new(
            hidden_states,
            router_indices,
            routing_weights,
            weights.clone(),
            capacity,
        )
    }
}

/// The same problem with a share of its tokens replaced by zeros but for one value, which the tensor cores leave to the
/// fallback kernels: one token in every `every`.
pub(crate) fn with_fallback_tokens(problem: &Problem<f32>, every: usize) -> Result<Problem<f32>, Error> {
    let mut hidden_states = problem.hidden_states().clone();
    for (token, mut row) in hidden_states.rows_mut().into_iter().enumerate() {
        if token % every == 0 {
            row.iter_mut().skip(1).for_each(|value| *value = 0.0);
        }
    }
    Problem::new(
        hidden_states,
        problem.router_indices().to_owned(),
        problem.routing_weights().clone(),
        problem.weights().clone(),
        problem.capacity(),
    )
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Random {
        let mut random = Random(seed ^ stream.rotate_left(32));
        Random(random.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In 0..limit; the bias is below limit / 2^64.
    fn below(&mut self, limit: usize) -> i64 {
        ((u128::from(self.next()) * limit as u128) >> 64) as i64
    }

    /// In 0..1.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Close to normal, of mean 0 and deviation 1: four uniform numbers of 16 bits.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: i32 = [0, 16, 32, 48]
            .map(|shift| i32::from((bits >> shift) as u16))
            .iter()
            .sum();
        (sum - 2 * 0xffff) as f32 * (3f32.sqrt() / 65536.0)
    }

    fn normals<D: Dimension>(&mut self, shape: impl ShapeBuilder<Dim = D>, deviation: f32) -> Array<f32, D> {
        Array::from_shape_simple_fn(shape, || deviation * self.normal())
    }
}
