//! Where the wallet's password comes from.

use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::{WalletError, read_bounded};

/// The environment variable that [`read_password`] looks at first.
pub const PASSWORD_VARIABLE: &str = "OCELLI_PASSWORD";

/// Whether a password is typed once or, for a new wallet, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// Asks once: a wrong password shows itself.
    No,
    /// Asks twice: a mistyped password would lock the new wallet for ever.
    Yes,
}

/// Reads the wallet's password, any bytes: from `OCELLI_PASSWORD`, else from `file` (`--password-file`), else from the
/// terminal.
///
/// Of the variable and the file the first line counts, spaces included, without a byte order mark before it.
///
/// # Errors
/// [`WalletError::EmptyPassword`], [`WalletError::PasswordEncoding`], [`WalletError::PasswordsDiffer`],
/// [`WalletError::NoTerminal`], or that of the file.
pub fn read_password(file: Option<&Path>, confirm: Confirm) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let from_environment = std::env::var_os(PASSWORD_VARIABLE).map(|text| Zeroizing::new(text.into_encoded_bytes()));
    choose_password(from_environment, file, || match confirm {
        Confirm::No => prompt("Wallet password: "),
        Confirm::Yes => {
            let first = prompt("Password for the new wallet: ")?;
            let again = prompt("The same again: ")?;
            if first == again { Ok(first) } else { Err(WalletError::PasswordsDiffer) }
        }
    })
}

fn choose_password(
    from_environment: Option<Zeroizing<Vec<u8>>>,
    file: Option<&Path>,
    ask: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, WalletError>,
) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let password = match (from_environment, file) {
        (Some(text), _) => first_line(&text, || format!("the variable {PASSWORD_VARIABLE}"))?,
        (None, Some(path)) => {
            let failed = |source: io::Error| WalletError::PasswordFile { path: path.into(), source };
            first_line(&read_bounded(path).map_err(failed)?, || path.display().to_string())?
        }
        (None, None) => ask()?,
    };
    if password.is_empty() { Err(WalletError::EmptyPassword) } else { Ok(password) }
}

/// The first line of a text, without its end, LF or CRLF, and without the mark that some editors put before it.
fn first_line(text: &[u8], source: impl Fn() -> String) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // UTF-16 has a mark of its own, or zeros, which no password of a terminal or variable can have.
    if line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff") || line.contains(&0) {
        return Err(WalletError::PasswordEncoding { place: source() });
    }
    let ended = line.len() < text.len();
    let line = line.strip_suffix(b"\r").filter(|_| ended).unwrap_or(line);
    Ok(Zeroizing::new(line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line).to_vec()))
}

/// Asks on the terminal itself, so that it also works where stdin and stdout are pipes.
fn prompt(question: &str) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let typed = rpassword::prompt_password(question).map_err(|source| WalletError::NoTerminal { source })?;
    Ok(Zeroizing::new(typed.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn passwords_come_from_environment_then_file_then_terminal() {
        let secret = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        let file = file_with(b"from the file\r\nsecond line\n");
        let ask = || Ok(secret("typed"));
        let chosen = |environment: Option<&str>, file| choose_password(environment.map(secret), file, ask);

        assert_eq!(*chosen(Some("from outside"), Some(file.path())).unwrap(), b"from outside");
        assert_eq!(*chosen(None, Some(file.path())).unwrap(), b"from the file");
        assert_eq!(*chosen(None, None).unwrap(), b"typed");
        assert!(matches!(chosen(Some(""), None).unwrap_err(), WalletError::EmptyPassword));
        assert!(matches!(
            chosen(None, Some(Path::new("/nonexistent/password"))).unwrap_err(),
            WalletError::PasswordFile { .. }
        ));
    }

    #[test]
    fn the_line_is_taken_as_it_is() {
        let rows: [(&[u8], &[u8]); 10] = [
            (b"x y\n", b"x y"),
            (b"x y", b"x y"),
            (b"x y\r\n", b"x y"),
            (b"\xef\xbb\xbfx y\n", b"x y"),
            (b"\xef\xbb\xbfx y\r\nmore", b"x y"),
            (b"  x y\t \n", b"  x y\t "),
            (b"x y\n\n", b"x y"),
            // A carriage return that ends no line is part of the password.
            (b"x y\r\r\n", b"x y\r"),
            (b"x y\r", b"x y\r"),
            (b"p\xe4ss\n", b"p\xe4ss"),
        ];
        for (text, expected) in rows {
            let environment = Some(Zeroizing::new(text.to_vec()));
            let nobody = || Err(WalletError::PasswordsDiffer);
            assert_eq!(*choose_password(environment, None, nobody).unwrap(), expected, "{text:?}");
            assert_eq!(*choose_password(None, Some(file_with(text).path()), nobody).unwrap(), expected, "{text:?}");
        }
        for text in [&b""[..], b"\n", b"\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"] {
            let error = choose_password(None, Some(file_with(text).path()), || unreachable!()).unwrap_err();
            assert!(matches!(error, WalletError::EmptyPassword), "{text:?}: {error}");
        }
        for text in [&b"\xff\xfex\0 \0y\0\n\0"[..], b"\xfe\xff\0x\0 \0y\0\n", b"x\0 \0y\0\n\0"] {
            let error = choose_password(None, Some(file_with(text).path()), || unreachable!()).unwrap_err();
            assert!(error.to_string().contains("UTF-16"), "{text:?}: {error}");
        }
    }
}
