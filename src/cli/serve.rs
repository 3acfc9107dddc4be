//! `serve`: an engine of this crate as a program for `--command`.

use binned_experts_check::Engine;
use binned_experts_check::engine::program::serve;

use super::engines::{named, opened};
use super::{Conclusion, Failure, Serve};

pub(super) fn run(arguments: &Serve) -> Result<Conclusion, Failure> {
    let mut engine = engine(arguments)?;
    serve(&mut *engine, std::io::stdin().lock(), std::io::stdout().lock())?;
    Ok(Conclusion::Done)
}

fn engine(arguments: &Serve) -> Result<Box<dyn Engine>, Failure> {
    let built_in = named(&arguments.engine)?;
    #[cfg(feature = "cuda")]
    if let Some(path) = &arguments.image {
        let image = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        #[expect(unsafe_code, reason = "machine code can only be trusted")]
        // SAFETY: the user names the file, as that of any program to run.
        let engine = unsafe { crate::engines::with_image(built_in.name, image) }?;
        return engine.ok_or_else(|| format!("--image: expected an engine of a GPU, found {}", built_in.name).into());
    }
    Ok(opened(built_in)?.engine)
}
