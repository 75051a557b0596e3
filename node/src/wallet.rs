//! The wallet: one Ed25519 key in a password-protected file.
//!
//! The file is an encrypted PKCS#8 PEM (RFC 5958, RFC 7468) that `openssl pkey -in wallet.pem` opens as well: PBES2 with
//! scrypt and AES-256-CBC (RFC 8018, RFC 7914). CBC carries no checksum, and OpenSSL 3 reads neither an AEAD here nor
//! the PKCS#8 version that repeats the public key, so a damaged file could silently decrypt to another key. The public
//! key therefore stands in a line of text above the PEM, where RFC 7468 allows it, and [`Wallet::open`] compares.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::KeypairBytes;
use ed25519_dalek::{Signer as _, SigningKey};
use pkcs8::pkcs5::pbes2::{self, Kdf};
use pkcs8::pkcs5::{self, EncryptionScheme, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument};
use zeroize::{Zeroize as _, Zeroizing};

/// The environment variable that [`read_password`] looks at first.
pub const PASSWORD_VARIABLE: &str = "OCELLI_PASSWORD";

/// RFC 8410, section 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

const ENCRYPTED_LABEL: &str = "ENCRYPTED PRIVATE KEY";
const PLAIN_LABEL: &str = "PRIVATE KEY";
const PUBLIC_KEY_PREFIX: &str = "Ocelli wallet, Ed25519 public key ";

/// scrypt's cost: the row of OWASP's Password Storage Cheat Sheet with the most memory that OpenSSL 3 accepts. It needs
/// 16 MiB; OpenSSL's ceiling is 32 MiB, all bookkeeping included, so log2 N = 15 at r = 8 is already refused.
const SCRYPT_LOG_N: u8 = 14;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 5;

/// Bounds what a file can make us compute before its password is known: scrypt's `128 * N * r * p` in bytes (at least
/// its memory), and PBKDF2's iterations. A guess at what nobody exceeds in earnest.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
const MAX_PBKDF2_ITERATIONS: u32 = 50_000_000;

/// Bounds the files that are read; a wallet has about 500 bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// One account's key, ready to sign. The seed is wiped from memory on drop.
pub struct Wallet {
    key: SigningKey,
}

impl Wallet {
    /// Makes a new key and writes it to `path`, encrypted with `password`.
    ///
    /// The parent folder is made if missing. The file appears whole or not at all, is synced to disk, is readable by its
    /// owner only, and never replaces another.
    ///
    /// # Errors
    /// [`WalletError::Exists`], [`WalletError::EmptyPassword`], [`WalletError::Write`], [`WalletError::Random`].
    pub fn create(path: &Path, password: &str) -> Result<Self, WalletError> {
        // Asked early to save the user the key derivation; `write_new` is what guarantees it.
        if path.symlink_metadata().is_ok() {
            return Err(WalletError::Exists { path: path.into() });
        }
        if password.is_empty() {
            return Err(WalletError::EmptyPassword);
        }
        let mut seed = Zeroizing::new([0; 32]);
        fill_random(seed.as_mut())?;
        let wallet = Self::from_seed(*seed);
        write_new(path, wallet.to_pem(password)?.as_bytes())?;
        Ok(wallet)
    }

    /// Opens the wallet file at `path`. One made by OpenSSL will do, if it is an encrypted PKCS#8 PEM of an Ed25519 key.
    ///
    /// # Errors
    /// Every variant of [`WalletError`] that speaks of a file that is there, or is not.
    pub fn open(path: &Path, password: &str) -> Result<Self, WalletError> {
        let text = read_text(path)?;
        let (above, document) = encrypted_document(path, &text)?;
        let key = decrypt(path, document.as_bytes(), password)?;
        let wallet = Self { key };
        let found = hex::encode(wallet.public_key());
        match above.lines().find_map(|line| line.strip_prefix(PUBLIC_KEY_PREFIX)) {
            Some(stated) if stated.trim() != found => {
                Err(WalletError::Damaged { path: path.into(), stated: stated.trim().to_owned(), found })
            }
            _ => Ok(wallet),
        }
    }

    /// Looks whether there is a wallet file, as far as that can be seen without its password.
    ///
    /// # Errors
    /// Those of [`Wallet::open`] that need no password.
    pub fn check(path: &Path) -> Result<(), WalletError> {
        encrypted_document(path, &read_text(path)?).map(|_| ())
    }

    /// Makes the wallet of a known 32-byte seed (RFC 8032's private key), such as the local network's development wallet.
    #[must_use]
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&seed);
        seed.zeroize();
        Self { key }
    }

    /// Signs `message` as RFC 8032 says, the message itself and not a hash of it.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// Returns the Ed25519 public key in its 32-byte encoding.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn to_pem(&self, password: &str) -> Result<Zeroizing<String>, WalletError> {
        // Without the public key, which would make it a version that OpenSSL 3 cannot read.
        let key = KeypairBytes { secret_key: self.key.to_bytes(), public_key: None };
        let document =
            pkcs8::EncodePrivateKey::to_pkcs8_der(&key).expect("an Ed25519 key has one fixed, valid encoding");
        let info =
            PrivateKeyInfoRef::try_from(document.as_bytes()).expect("it was encoded by the same library just now");

        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        fill_random(&mut salt)?;
        fill_random(&mut iv)?;
        let cost = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).expect("the constants are valid parameters");
        let parameters = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv)
            .expect("the salt has the length that is allowed");
        let pem = info
            .encrypt_with_params(parameters, password)
            .and_then(|encrypted| Ok(encrypted.to_pem(ENCRYPTED_LABEL, LineEnding::LF)?))
            .expect("a short document encrypts and encodes");
        Ok(Zeroizing::new(format!("{PUBLIC_KEY_PREFIX}{}\n{}", hex::encode(self.public_key()), *pem)))
    }
}

/// Shows the public key only.
impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wallet").field("public_key", &hex::encode(self.public_key())).finish_non_exhaustive()
    }
}

/// Whether a password is typed once or, for a new wallet, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// Asks once: a wrong password shows itself.
    No,
    /// Asks twice: a mistyped password would lock the new wallet for ever.
    Yes,
}

/// Reads the wallet's password: from `OCELLI_PASSWORD`, else from `file` (`--password-file`), else from the terminal.
///
/// Of the file, the first line counts.
///
/// # Errors
/// [`WalletError::EmptyPassword`], [`WalletError::PasswordsDiffer`], [`WalletError::NoTerminal`], or that of the file.
pub fn read_password(file: Option<&Path>, confirm: Confirm) -> Result<Zeroizing<String>, WalletError> {
    let from_environment = std::env::var(PASSWORD_VARIABLE).ok().map(Zeroizing::new);
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
    from_environment: Option<Zeroizing<String>>,
    file: Option<&Path>,
    ask: impl FnOnce() -> Result<Zeroizing<String>, WalletError>,
) -> Result<Zeroizing<String>, WalletError> {
    let password = match (from_environment, file) {
        (Some(password), _) => password,
        (None, Some(path)) => {
            let text = read_bounded(path)
                .and_then(into_text)
                .map_err(|source| WalletError::PasswordFile { path: path.into(), source })?;
            Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
        }
        (None, None) => ask()?,
    };
    if password.is_empty() { Err(WalletError::EmptyPassword) } else { Ok(password) }
}

/// Asks on the terminal itself, so that it also works where stdin and stdout are pipes.
fn prompt(question: &str) -> Result<Zeroizing<String>, WalletError> {
    rpassword::prompt_password(question).map(Zeroizing::new).map_err(|source| WalletError::NoTerminal { source })
}

/// Why there is no wallet to use.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// There is no file of that name.
    #[error("no wallet at {}: make one with `ocelli wallet new`, or name another with --wallet", path.display())]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The new wallet's place is taken.
    #[error("{} exists already, and a wallet is never overwritten: choose another name, or move that file away", path.display())]
    Exists {
        /// The file that is there.
        path: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error("cannot read the wallet {}: check that it is a file and that you may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The new file, or its folder, cannot be written.
    #[error("cannot write the wallet {}: check the folder's permissions and the free space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file has another format altogether.
    #[error(
        "{} is not a wallet: expected a PEM file that holds `-----BEGIN ENCRYPTED PRIVATE KEY-----` whole; \
         restore it from a backup, or make a new one with `ocelli wallet new`",
        path.display()
    )]
    NotPem {
        /// The file.
        path: PathBuf,
    },
    /// The file is a PEM of something else.
    #[error(
        "{} holds a PEM `{found}`, expected `ENCRYPTED PRIVATE KEY`: name the right file with --wallet, or convert this \
         one with `openssl pkcs8 -topk8 -scrypt`",
        path.display()
    )]
    WrongLabel {
        /// The file.
        path: PathBuf,
        /// What stands after `-----BEGIN`.
        found: String,
    },
    /// The key lies open. Such a file is refused, so that nobody takes it for protected.
    #[error(
        "the key in {} is not encrypted, and a wallet must be: encrypt it with \
         `openssl pkcs8 -topk8 -scrypt -in {0} -out NEW.pem`",
        path.display()
    )]
    NotEncrypted {
        /// The file.
        path: PathBuf,
    },
    /// The password does not open the file. Damage cannot always be told from it.
    #[error("the password does not open {}: try it again; if you are sure of it, the file is damaged: use a backup", path.display())]
    WrongPassword {
        /// The file.
        path: PathBuf,
    },
    /// The file opens, but to another key than it says.
    #[error("{} is damaged: it states the public key {stated} but holds the key of {found}; use a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The public key in the text above the PEM.
        stated: String,
        /// The public key of what the PEM holds, in hex.
        found: String,
    },
    /// The key is of another kind.
    #[error(
        "{} holds a key of algorithm {found}, expected Ed25519 ({ED25519}): make one with `ocelli wallet new`",
        path.display()
    )]
    NotEd25519 {
        /// The file.
        path: PathBuf,
        /// Its algorithm's object identifier.
        found: ObjectIdentifier,
    },
    /// The file is encrypted in a way we do not know, or will not pay for.
    #[error(
        "{} is encrypted in an unsupported way, expected PBES2 with scrypt or PBKDF2 at a usual cost, and AES-CBC: \
         convert it with `openssl pkcs8 -topk8 -scrypt -in {0} -out NEW.pem`",
        path.display()
    )]
    UnsupportedEncryption {
        /// The file.
        path: PathBuf,
    },
    /// A wallet without a password would only look protected.
    #[error(
        "the password is empty, expected at least one character: set {PASSWORD_VARIABLE}, or --password-file, or type one"
    )]
    EmptyPassword,
    /// The new password was typed in two ways.
    #[error("the two passwords differ: nothing was written; try again")]
    PasswordsDiffer,
    /// The file of `--password-file` cannot be read.
    #[error("cannot read the password from {}: expected a text file whose first line is the password", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody can be asked.
    #[error("there is no terminal to ask for the wallet's password: set {PASSWORD_VARIABLE}, or use --password-file")]
    NoTerminal {
        /// What the system says.
        source: io::Error,
    },
    /// The system's random numbers failed.
    #[error(
        "the system gives no random numbers, and a key needs them: try again, and check that /dev/urandom is there"
    )]
    Random {
        /// What the system says.
        source: io::Error,
    },
}

/// The text above the PEM, and what the PEM holds.
fn encrypted_document<'a>(path: &Path, text: &'a str) -> Result<(&'a str, SecretDocument), WalletError> {
    let not_pem = || WalletError::NotPem { path: path.into() };
    let (above, pem) = text.split_at(text.find("-----BEGIN ").ok_or_else(not_pem)?);
    // The label first: not every PEM holds DER, which is what `SecretDocument` expects.
    match pkcs8::der::pem::decode_label(pem.as_bytes()).map_err(|_| not_pem())? {
        ENCRYPTED_LABEL => {}
        PLAIN_LABEL => return Err(WalletError::NotEncrypted { path: path.into() }),
        other => return Err(WalletError::WrongLabel { path: path.into(), found: other.to_owned() }),
    }
    let (_, document) = SecretDocument::from_pem(pem).map_err(|_| not_pem())?;
    Ok((above, document))
}

fn decrypt(path: &Path, encrypted: &[u8], password: &str) -> Result<SigningKey, WalletError> {
    let unsupported = || WalletError::UnsupportedEncryption { path: path.into() };
    let wrong_password = || WalletError::WrongPassword { path: path.into() };

    let info = EncryptedPrivateKeyInfoRef::try_from(encrypted).map_err(|_| unsupported())?;
    if !is_affordable(&info.encryption_algorithm) {
        return Err(unsupported());
    }
    let document = info.decrypt(password).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(
            pkcs5::Error::UnsupportedAlgorithm { .. } | pkcs5::Error::AlgorithmParametersInvalid { .. },
        ) => unsupported(),
        _ => wrong_password(),
    })?;
    // A wrong password passes the padding check once in 256 times; what comes out then is no PKCS#8.
    let info = PrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| wrong_password())?;
    if info.algorithm.oid != ED25519 {
        return Err(WalletError::NotEd25519 { path: path.into(), found: info.algorithm.oid });
    }
    SigningKey::try_from(info).map_err(|_| wrong_password())
}

fn is_affordable(scheme: &EncryptionScheme) -> bool {
    match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Scrypt(scrypt)) => {
            let work = [scrypt.cost_parameter, scrypt.block_size.into(), scrypt.parallelization.into()]
                .into_iter()
                .fold(128, u64::saturating_mul);
            work <= MAX_SCRYPT_BYTES
        }
        Some(Kdf::Pbkdf2(pbkdf2)) => pbkdf2.iteration_count <= MAX_PBKDF2_ITERATIONS,
        _ => false,
    }
}

fn fill_random(bytes: &mut [u8]) -> Result<(), WalletError> {
    getrandom::fill(bytes).map_err(|error| WalletError::Random { source: error.into() })
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, WalletError> {
    match read_bounded(path) {
        Ok(bytes) => into_text(bytes).map_err(|_| WalletError::NotPem { path: path.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(WalletError::Missing { path: path.into() }),
        Err(source) => Err(WalletError::Read { path: path.into(), source }),
    }
}

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn into_text(bytes: Zeroizing<Vec<u8>>) -> io::Result<Zeroizing<String>> {
    let text = std::str::from_utf8(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Writes a file that must not exist yet: whole under a temporary name (mode 0600), synced, then renamed.
fn write_new(path: &Path, contents: &[u8]) -> Result<(), WalletError> {
    let failed = |source| WalletError::Write { path: path.into(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    make_private_folder(folder).map_err(failed)?;

    let mut file = tempfile::Builder::new().prefix(".wallet-").tempfile_in(folder).map_err(failed)?;
    file.write_all(contents).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist_noclobber(path).map_err(|refused| match refused.error.kind() {
        io::ErrorKind::AlreadyExists => WalletError::Exists { path: path.into() },
        _ => failed(refused.error),
    })?;
    sync_folder(folder).map_err(failed)
}

fn make_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Makes the new name durable. Only Unix opens folders as files.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, VerifyingKey};

    /// `openssl genpkey -algorithm ed25519 | openssl pkcs8 -topk8 -scrypt -passout pass:hunter2` (OpenSSL 3.0.19).
    const FROM_OPENSSL: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAj6m+sRTmGtOwICQAAC\n\
AQgCAQEwHQYJYIZIAWUDBAEqBBCy+O5sPLMEOoDVM5F7RHmjBEAAKz6L/fZLg242\n\
hjr26fiQInqvzhbQOmJJayOijR5w4a95//AoaPVoUm/WmcCTPkBGiuZMEfdZpLNS\n\
HbgPlbKk\n\
-----END ENCRYPTED PRIVATE KEY-----\n";

    /// The same key by `openssl pkcs8 -topk8 -passout pass:hunter2`, which takes PBKDF2.
    const FROM_OPENSSL_PBKDF2: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjCIrNTa8lPBwICCAAw\n\
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEKqZwDCIwozLuZA2vdzgERcEQNLe\n\
b4AADitpnBKqYtyACXBIGT78Mjf0oZK5w/sy3aPX7z0O7mrF7+Tk9uZOp2AW8E+I\n\
p6vpbKis+CkTPrVHBWQ=\n\
-----END ENCRYPTED PRIVATE KEY-----\n";

    /// The public key of both, by `openssl pkey -pubout`.
    const FROM_OPENSSL_PUBLIC: &str = "61d96fadcaff491e67d9640e39ad3eae6338aebeb66a3dc14fd34983888a3cf3";

    /// `openssl genpkey -algorithm ed25519`.
    const NOT_ENCRYPTED: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MC4CAQAwBQYDK2VwBCIEIE3bfm4IjnvMDi8p7zhpkFeO6KoGiVtZRaSyJF9H5lm4\n\
-----END PRIVATE KEY-----\n";

    /// `openssl genpkey -algorithm x25519 | openssl pkcs8 -topk8 -scrypt -passout pass:hunter2`.
    const X25519: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAgOE7aMqr2TtAICQAAC\n\
AQgCAQEwHQYJYIZIAWUDBAEqBBAzgmjjY2lg+ClB2/3Knhl/BEDmC54hdaEUvNL8\n\
BVtvOKzMwjad7MpV5p2E+7+T+n+1Zh3Bu/CW4nfNOStWcarw7QCq2qpiXgw5iamX\n\
i2Z+tMyG\n\
-----END ENCRYPTED PRIVATE KEY-----\n";

    /// The same as [`FROM_OPENSSL`], with `-v1 PBE-SHA1-3DES`: neither PBES2 nor AES.
    const PBES1: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
MFgwHAYKKoZIhvcNAQwBAzAOBAjYh52hdHajBgICCAAEOLlhfG2RcjFcAJk456wE\n\
DaIWn/jlbT8ERswKgCLQl/b9zYocRmdHmsRro3XWTmFv7av0evMVAsQ4\n\
-----END ENCRYPTED PRIVATE KEY-----\n";

    fn file_with(text: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_wallet_survives_the_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/deeper/wallet.pem");
        let made = Wallet::create(&path, "correct horse").unwrap();
        let opened = Wallet::open(&path, "correct horse").unwrap();
        assert_eq!(made.public_key(), opened.public_key());

        let signature = Signature::from_bytes(&opened.sign(b"message"));
        VerifyingKey::from_bytes(&made.public_key()).unwrap().verify_strict(b"message", &signature).unwrap();

        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [path], "no temporary file stays behind");
    }

    #[test]
    fn a_seed_gives_the_key_of_rfc_8032_section_7_1_test_1() {
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let wallet = Wallet::from_seed(seed.try_into().unwrap());
        assert_eq!(
            hex::encode(wallet.public_key()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(
            hex::encode(wallet.sign(b"")),
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595b\
             be24655141438e7a100b"
        );
        assert!(!format!("{wallet:?}").contains("9d61"), "the seed is never shown");
    }

    #[test]
    fn wallets_of_openssl_open() {
        for text in [FROM_OPENSSL, FROM_OPENSSL_PBKDF2] {
            let wallet = Wallet::open(file_with(text).path(), "hunter2").unwrap();
            assert_eq!(hex::encode(wallet.public_key()), FROM_OPENSSL_PUBLIC);
        }
    }

    #[test]
    fn a_file_that_is_no_wallet_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Wallet::open(&folder.path().join("none.pem"), "x").unwrap_err();
        assert!(missing.to_string().contains("ocelli wallet new"), "{missing}");
        assert!(matches!(Wallet::open(folder.path(), "x").unwrap_err(), WalletError::Read { .. }));

        type Check = fn(&WalletError) -> bool;
        let cut_short = &FROM_OPENSSL[..FROM_OPENSSL.len() - 40];
        let rows: [(&str, &[u8], &str, Check); 9] = [
            ("empty", b"", "x", |e| matches!(e, WalletError::NotPem { .. })),
            ("a picture", b"\xff\xd8\xff\xe0\0\x10JFIF", "x", |e| matches!(e, WalletError::NotPem { .. })),
            ("cut short", cut_short.as_bytes(), "hunter2", |e| matches!(e, WalletError::NotPem { .. })),
            (
                "a certificate",
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "x",
                |e| matches!(e, WalletError::WrongLabel { found, .. } if found == "CERTIFICATE"),
            ),
            ("plain", NOT_ENCRYPTED.as_bytes(), "x", |e| matches!(e, WalletError::NotEncrypted { .. })),
            (
                "x25519",
                X25519.as_bytes(),
                "hunter2",
                |e| matches!(e, WalletError::NotEd25519 { found, .. } if found.to_string() == "1.3.101.110"),
            ),
            ("pbes1", PBES1.as_bytes(), "hunter2", |e| matches!(e, WalletError::UnsupportedEncryption { .. })),
            ("wrong password", FROM_OPENSSL.as_bytes(), "hunter3", |e| matches!(e, WalletError::WrongPassword { .. })),
            ("no password", FROM_OPENSSL.as_bytes(), "", |e| matches!(e, WalletError::WrongPassword { .. })),
        ];
        for (name, contents, password, is_expected) in rows {
            let error = Wallet::open(file_with(contents).path(), password).unwrap_err();
            assert!(is_expected(&error), "{name}: {error}");
        }
    }

    #[test]
    fn a_tampered_file_never_opens() {
        let pem = Wallet::from_seed([7; 32]).to_pem("x").unwrap();
        Wallet::open(file_with(pem.as_bytes()).path(), "x").unwrap();
        let (above, encoded) = pem.split_at(pem.find("-----BEGIN").unwrap());
        let (_, document) = SecretDocument::from_pem(encoded).unwrap();

        // The end of the document is the ciphertext: the header's block, two that hold the seed, the padding's.
        let length = document.as_bytes().len();
        let mut seen = Vec::new();
        for position in [0, 40, length - 64, length - 48, length - 32, length - 20, length - 1] {
            let mut bytes = document.as_bytes().to_vec();
            bytes[position] ^= 1;
            let pem = pkcs8::der::pem::encode_string(ENCRYPTED_LABEL, LineEnding::LF, &bytes).unwrap();
            seen.push(Wallet::open(file_with(format!("{above}{pem}")).path(), "x").unwrap_err());
        }
        assert!(seen.iter().any(|error| matches!(error, WalletError::WrongPassword { .. })), "{seen:?}");
        assert!(seen.iter().any(|error| matches!(error, WalletError::Damaged { .. })), "{seen:?}");

        let other_key = pem.replace(&hex::encode(Wallet::from_seed([7; 32]).public_key()), &"00".repeat(32));
        let error = Wallet::open(file_with(other_key).path(), "x").unwrap_err();
        assert!(matches!(error, WalletError::Damaged { .. }), "{error}");
    }

    #[test]
    fn an_absurd_cost_is_refused_before_it_is_paid() {
        let cost = scrypt::Params::new(30, 8, 1).unwrap();
        let scheme = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &[0; 16], [0; 16]).unwrap();
        assert!(!is_affordable(&scheme.into()));
        let cost = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).unwrap();
        let scheme = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &[0; 16], [0; 16]).unwrap();
        assert!(is_affordable(&scheme.into()));
    }

    #[test]
    fn nothing_is_overwritten() {
        let file = file_with("precious");
        for error in [Wallet::create(file.path(), "x").unwrap_err(), write_new(file.path(), b"other").unwrap_err()] {
            assert!(matches!(error, WalletError::Exists { .. }), "{error}");
        }
        assert_eq!(fs::read(file.path()).unwrap(), b"precious");
    }

    #[test]
    fn an_empty_password_makes_no_wallet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.pem");
        assert!(matches!(Wallet::create(&path, "").unwrap_err(), WalletError::EmptyPassword));
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/wallet.pem");
        Wallet::create(&path, "x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }

    #[test]
    fn passwords_come_from_environment_then_file_then_terminal() {
        let secret = |text: &str| Zeroizing::new(text.to_owned());
        let file = file_with("from the file\r\nsecond line\n");
        let ask = || Ok(secret("typed"));
        let chosen = |environment: Option<&str>, file| choose_password(environment.map(secret), file, ask);

        assert_eq!(*chosen(Some("from outside"), Some(file.path())).unwrap(), "from outside");
        assert_eq!(*chosen(None, Some(file.path())).unwrap(), "from the file");
        assert_eq!(*chosen(None, None).unwrap(), "typed");
        assert!(matches!(chosen(Some(""), None).unwrap_err(), WalletError::EmptyPassword));
        assert!(matches!(
            chosen(None, Some(Path::new("/nonexistent/password"))).unwrap_err(),
            WalletError::PasswordFile { .. }
        ));
    }
}
