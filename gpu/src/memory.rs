//! Buffers on a machine, by name.

use std::collections::BTreeMap;

use crate::plan::{Buffer, BufferId, Plan, Value};
use crate::{Arg, GpuError, Machine};

/// The buffers of a plan, kept for the next one as long as they are large enough.
///
/// Arguments cover exactly the bytes that the present plan needs, so a machine that checks bounds sees through what an
/// earlier, larger problem left behind.
#[derive(Debug)]
pub(crate) struct Memory<M: Machine> {
    regions: BTreeMap<BufferId, Region<M::Buffer>>,
}

#[derive(Debug)]
struct Region<B> {
    buffer: B,
    /// The size of the buffer, and what the present plan needs of it.
    capacity: usize,
    bytes: usize,
}

impl<M: Machine> Memory<M> {
    /// Without any buffer.
    pub(crate) fn new() -> Memory<M> {
        Memory {
            regions: BTreeMap::new(),
        }
    }

    /// Buffers that are there already, and their sizes.
    #[cfg(feature = "cuda")]
    pub(crate) fn of(buffers: impl IntoIterator<Item = (BufferId, M::Buffer, usize)>) -> Memory<M> {
        let region = |(id, buffer, bytes)| {
            let region = Region {
                buffer,
                capacity: bytes,
                bytes,
            };
            (id, region)
        };
        Memory {
            regions: buffers.into_iter().map(region).collect(),
        }
    }

    /// Takes other buffers as well.
    #[cfg(feature = "cuda")]
    pub(crate) fn append(&mut self, mut other: Memory<M>) {
        self.regions.append(&mut other.regions);
    }

    /// Makes every buffer of a plan that `lent` does not have at least as large as it asks for, and the contents
    /// undefined or zeros.
    pub(crate) fn prepare(&mut self, machine: &mut M, plan: &Plan, lent: &Memory<M>) -> Result<(), GpuError> {
        for region in self.regions.values_mut() {
            region.bytes = 0;
        }
        let own = plan
            .buffers
            .iter()
            .filter(|buffer| !lent.regions.contains_key(&buffer.id));
        for &Buffer { id, bytes, zeroed, .. } in own {
            if self.regions.get(&id).is_none_or(|region| region.capacity < bytes) {
                // Given back first: the machine may not hold both.
                self.regions.remove(&id);
                let buffer = machine.alloc(bytes)?;
                let capacity = bytes;
                let region = Region {
                    buffer,
                    capacity,
                    bytes,
                };
                self.regions.insert(id, region);
            }
            if let Some(region) = self.regions.get_mut(&id) {
                region.bytes = bytes;
                machine.discard(&mut region.buffer, bytes)?;
                if zeroed {
                    machine.upload(&mut region.buffer, &vec![0; bytes])?;
                }
            }
        }
        Ok(())
    }

    /// Gives back the buffers of a plan that are temporary, once its steps have been launched.
    pub(crate) fn release(&mut self, plan: &Plan) {
        for buffer in plan.buffers.iter().filter(|buffer| buffer.temporary) {
            self.regions.remove(&buffer.id);
        }
    }

    /// Copies to a buffer.
    pub(crate) fn upload(&mut self, machine: &mut M, id: BufferId, bytes: &[u8]) -> Result<(), GpuError> {
        match self.regions.get_mut(&id) {
            Some(region) => machine.upload(&mut region.buffer, bytes),
            None => Err(absent(id)),
        }
    }

    /// Copies from a buffer, from its byte `first` on.
    pub(crate) fn download(
        &self,
        machine: &mut M,
        id: BufferId,
        first: usize,
        bytes: &mut [u8],
    ) -> Result<(), GpuError> {
        match self.regions.get(&id) {
            Some(region) => machine.download(&region.buffer, first, bytes),
            None => Err(absent(id)),
        }
    }

    fn arg(&self, id: BufferId) -> Option<Arg<'_, M::Buffer>> {
        let region = self.regions.get(&id)?;
        Some(Arg::Buffer(&region.buffer, region.bytes))
    }
}

/// Launches the steps of a path's plan. The memories have been prepared for it, and hold its inputs.
pub(crate) fn run<M: Machine>(machine: &mut M, plan: &Plan, memories: &[&Memory<M>]) -> Result<(), GpuError> {
    for step in &plan.steps {
        let arg = |&(name, value): &(&'static str, Value)| {
            let arg = match value {
                Value::Buffer(id) => memories.iter().find_map(|memory| memory.arg(id)).ok_or(absent(id))?,
                Value::Null => Arg::Null,
                Value::I64(value) => Arg::I64(value),
                Value::F32(value) => Arg::F32(value),
            };
            Ok((name, arg))
        };
        let args = step.args.iter().map(arg).collect::<Result<Vec<_>, GpuError>>()?;
        // SAFETY: the step is one of a path's plan, whose buffers are as long as the kernels' heads say, and whose steps
        // write what later ones read. Ids may have any value; an explicit order is that of a `Problem`, which has checked it.
        unsafe { machine.launch(step.launch, &args)? };
    }
    Ok(())
}

fn absent(id: BufferId) -> GpuError {
    GpuError::NoBuffer { name: id.0 }
}
