//! The programs of one release start each other, and stand in one folder.

use std::env::{self, consts::EXE_SUFFIX};
use std::path::PathBuf;

use crate::error::{CommandError, Explain as _};

/// The program of this name in the folder of the running one.
///
/// # Errors
/// If it is not there.
pub fn find(name: &str) -> Result<PathBuf, CommandError> {
    let own = env::current_exe().context(|| "cannot tell where this program is")?;
    let path = own.with_file_name(format!("{name}{EXE_SUFFIX}"));
    if path.is_file() {
        return Ok(path);
    }
    Err(CommandError::failed(format!("found no {}, expected it beside {}", path.display(), own.display())).with_hint(
        format!(
            "put the `{name}` of the same release there, or build it: `cargo build --release -p {}`",
            package(name)
        ),
    ))
}

/// The package that a program is built from.
fn package(name: &str) -> &str {
    if name == "ocelli" { "ocelli-node" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_its_package() {
        // Beside a test are other tests, whose names end in numbers.
        for (name, package) in [("ocelli", "ocelli-node"), ("ocelli-train", "ocelli-train")] {
            let said = find(name).unwrap_err().to_string();
            let path = env::current_exe().unwrap().with_file_name(name);
            assert!(said.starts_with(&format!("error: found no {}{EXE_SUFFIX}, expected it beside ", path.display())));
            assert!(said.ends_with(&format!("`cargo build --release -p {package}`\n")), "{said}");
        }
    }
}
