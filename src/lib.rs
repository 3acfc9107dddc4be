//! The kernels of [`binned_experts_gpu`] as engines for [`binned_experts_check`], the command, what the fuzz targets
//! run, and the zoo.
//!
//! - [`cli`]: the command `binned-experts`;
//! - [`engines`]: the engines that are built in, by name;
//! - [`fuzz`]: what the fuzz targets run;
//! - [`progress`]: the bar on a terminal;
//! - [`zoo`]: known bugs, planted in the kernels to see whether a check catches them.
//!
//! To check an engine of your own, depend on [`binned_experts_check`] alone.

pub mod cli;
pub mod engines;
pub mod fuzz;
pub mod progress;
#[cfg(feature = "emulator")]
pub mod zoo;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
