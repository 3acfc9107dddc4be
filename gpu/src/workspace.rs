//! The buffers between the stages, kept from one forward to the next.

use crate::plan::{Item, Plan};
use crate::{Arg, GpuError, Machine};

/// One buffer for each [`Item`], as large as the largest plan so far asked for.
///
/// Arguments cover exactly the bytes that the present plan needs, so a machine that checks bounds sees through what an
/// earlier, larger problem left behind.
#[derive(Debug)]
pub(crate) struct Workspace<M: Machine> {
    regions: [Option<Region<M::Buffer>>; Item::ALL.len()],
}

#[derive(Debug)]
struct Region<B> {
    buffer: B,
    bytes: usize,
}

impl<M: Machine> Workspace<M> {
    /// Without any buffer.
    pub(crate) fn new() -> Workspace<M> {
        Workspace {
            regions: std::array::from_fn(|_| None),
        }
    }

    /// Makes every buffer at least as large as the plan asks for, and its contents undefined.
    pub(crate) fn prepare(&mut self, machine: &mut M, plan: &Plan) -> Result<(), GpuError> {
        for item in Item::ALL {
            let region = &mut self.regions[item as usize];
            let bytes = plan.bytes(item);
            if region.as_ref().is_none_or(|region| region.bytes < bytes) {
                // Given back first: the machine may not hold both.
                *region = None;
                let buffer = machine.alloc(bytes)?;
                *region = Some(Region { buffer, bytes });
            }
            if let Some(region) = region {
                machine.discard(&mut region.buffer)?;
            }
        }
        Ok(())
    }

    /// Copies to a buffer.
    pub(crate) fn upload(&mut self, machine: &mut M, item: Item, bytes: &[u8]) -> Result<(), GpuError> {
        match &mut self.regions[item as usize] {
            Some(region) => machine.upload(&mut region.buffer, bytes),
            None => Err(absent(bytes)),
        }
    }

    /// Copies from a buffer.
    pub(crate) fn download(&self, machine: &mut M, item: Item, bytes: &mut [u8]) -> Result<(), GpuError> {
        match &self.regions[item as usize] {
            Some(region) => machine.download(&region.buffer, bytes),
            None => Err(absent(bytes)),
        }
    }

    /// A buffer as a kernel's argument.
    pub(crate) fn arg(&self, plan: &Plan, item: Item) -> Arg<'_, M::Buffer> {
        match &self.regions[item as usize] {
            Some(region) => Arg::Buffer(&region.buffer, plan.bytes(item)),
            None => Arg::Null,
        }
    }
}

fn absent(bytes: &[u8]) -> GpuError {
    GpuError::Transfer {
        bytes: 0,
        found: bytes.len(),
    }
}
