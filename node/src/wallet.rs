//! The wallet: one Ed25519 key in a password-protected file.
//!
//! The file is an encrypted PKCS#8 PEM (RFC 5958, RFC 7468) that `openssl pkey -in wallet.pem` opens as well: PBES2 with
//! scrypt and AES-256-CBC (RFC 8018, RFC 7914). CBC carries no checksum, and OpenSSL 3 reads neither an AEAD here nor
//! the PKCS#8 version that repeats the public key, so a damaged file could silently decrypt to another key. The public
//! key therefore stands in a line of text above the PEM, where RFC 7468 allows it, and [`LockedWallet::open`] compares.
//!
//! What OpenSSL opens is opened, if it is an encrypted Ed25519 key: by PBES2 with scrypt or PBKDF2 and with AES-CBC or
//! 3DES, as PEM or as bare DER. What else is in a PEM file, such as certificates, is passed over, and of several private
//! keys the first counts.

mod algorithm;
mod message;
mod password;
mod pem;
mod phrase;
mod watched;

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::KeypairBytes;
use ed25519_dalek::{Signer as _, SigningKey};
use pkcs8::pkcs5::pbes2::{self, Kdf};
use pkcs8::pkcs5::{self, EncryptionScheme, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier, PrivateKeyInfoRef};
use zeroize::{Zeroize as _, Zeroizing};

pub use self::message::{MessageError, verify_message};
pub use self::password::{Confirm, PASSWORD_VARIABLE, read_password};
pub use self::phrase::{PHRASE_WORDS, PhraseError};
pub use self::watched::{read_watched, write_watched};
use ocelli_program::output_file::{folder, sync_folder};

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

/// Bounds the files that are read; a wallet has about 500 bytes, and there may be certificates before it.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// One account's key, ready to sign. The seed is wiped from memory on drop.
pub struct Wallet {
    key: SigningKey,
}

impl Wallet {
    /// Makes a new key and writes it to `path`, as [`Wallet::write`] does.
    ///
    /// # Errors
    /// Those of [`Wallet::write`], and [`WalletError::Random`].
    pub fn create(path: &Path, password: &[u8]) -> Result<Self, WalletError> {
        let mut seed = Zeroizing::new([0; 32]);
        fill_random(seed.as_mut())?;
        let wallet = Self::from_seed(*seed);
        wallet.write(path, password)?;
        Ok(wallet)
    }

    /// Writes the key to `path`, encrypted with `password`.
    ///
    /// The parent folder is made if missing. The file appears whole or not at all, is synced to disk, is readable by its
    /// owner only, and never replaces another.
    ///
    /// # Errors
    /// [`WalletError::Exists`], [`WalletError::EmptyPassword`], [`WalletError::Write`], [`WalletError::Random`].
    pub fn write(&self, path: &Path, password: &[u8]) -> Result<(), WalletError> {
        // Asked early to save the user the key derivation; `write_new` is what guarantees it.
        if path.symlink_metadata().is_ok() {
            return Err(WalletError::Exists { path: path.into() });
        }
        write_new(path, self.to_pem(password)?.as_bytes())
    }

    /// The line that [`Wallet::create`] writes above the PEM: with it at the top, any wallet file states its public key.
    pub fn statement(&self) -> String {
        format!("{PUBLIC_KEY_PREFIX}{}", hex::encode(self.public_key()))
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

    /// The text of the key's file, encrypted with `password`.
    ///
    /// # Errors
    /// [`WalletError::EmptyPassword`], [`WalletError::Random`].
    pub fn to_pem(&self, password: &[u8]) -> Result<Zeroizing<String>, WalletError> {
        if password.is_empty() {
            return Err(WalletError::EmptyPassword);
        }
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
        Ok(Zeroizing::new(format!("{}\n{}", self.statement(), *pem)))
    }
}

/// Shows the public key only.
impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wallet").field("public_key", &hex::encode(self.public_key())).finish_non_exhaustive()
    }
}

/// A key as a file holds it.
pub enum KeyFile {
    /// Encrypted, as a wallet's file is.
    Locked(LockedWallet),
    /// Open to whoever reads the file.
    Open(Wallet),
}

/// A wallet as its file holds it. The file is read once, so that it may be a pipe.
pub struct LockedWallet {
    path: PathBuf,
    /// An `EncryptedPrivateKeyInfo` (RFC 5958, section 3).
    encrypted: Zeroizing<Vec<u8>>,
    /// The public key in the text above the PEM, in hex.
    stated: Option<String>,
}

impl KeyFile {
    /// Reads the file at `path`: an Ed25519 key in PKCS#8, PEM or DER, encrypted or not.
    ///
    /// # Errors
    /// Every variant of [`WalletError`] that can be seen without the password, but [`WalletError::NotEncrypted`].
    pub fn read(path: &Path) -> Result<Self, WalletError> {
        let bytes = read_bounded(path).map_err(|source| WalletError::reading(path, source))?;
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err(WalletError::Utf16 { path: path.into() });
        }
        let not_pem = || WalletError::NotPem { path: path.into() };
        let wrong_label = |label: &str| WalletError::WrongLabel { path: path.into(), found: label.to_owned() };
        let not_ed25519 = |found: &str| WalletError::NotEd25519 { path: path.into(), found: found.to_owned() };
        // What stands around the blocks may be in any encoding.
        let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
        let Some(block) = pem::blocks(&text).find(|block| block.label.ends_with(PLAIN_LABEL)) else {
            return match pem::blocks(&text).next() {
                Some(other) => Err(wrong_label(other.label)),
                None if EncryptedPrivateKeyInfoRef::try_from(bytes.as_slice()).is_ok() => {
                    Ok(Self::Locked(LockedWallet { path: path.into(), encrypted: bytes, stated: None }))
                }
                None => Self::open_key(path, &bytes),
            };
        };
        match block.label {
            ENCRYPTED_LABEL => {
                let stated = block.above.lines().rev().find_map(|line| line.split_once(PUBLIC_KEY_PREFIX));
                let stated = stated.map(|(_, key)| key.trim().to_owned());
                let encrypted = block.decode().ok_or_else(not_pem)?;
                Ok(Self::Locked(LockedWallet { path: path.into(), encrypted, stated }))
            }
            PLAIN_LABEL => Self::open_key(path, &block.decode().ok_or_else(not_pem)?),
            "RSA PRIVATE KEY" => Err(not_ed25519("RSA")),
            "EC PRIVATE KEY" => Err(not_ed25519("elliptic curve")),
            "DSA PRIVATE KEY" => Err(not_ed25519("DSA")),
            other => Err(wrong_label(other)),
        }
    }

    fn open_key(path: &Path, document: &[u8]) -> Result<Self, WalletError> {
        let not_pem = |_| WalletError::NotPem { path: path.into() };
        let info = PrivateKeyInfoRef::try_from(document).map_err(not_pem)?;
        check_algorithm(path, &info)?;
        Ok(Self::Open(Wallet { key: SigningKey::try_from(info).map_err(not_pem)? }))
    }
}

impl LockedWallet {
    /// Reads the wallet file at `path`. One made by OpenSSL will do, if it holds an encrypted Ed25519 key.
    ///
    /// # Errors
    /// Every variant of [`WalletError`] that can be seen without the password.
    pub fn read(path: &Path) -> Result<Self, WalletError> {
        match KeyFile::read(path)? {
            KeyFile::Locked(locked) => Ok(locked),
            KeyFile::Open(_) => Err(WalletError::NotEncrypted { path: path.into() }),
        }
    }

    /// The public key that the text above the PEM states, for which no password is needed; `None` where it states none.
    pub fn stated_key(&self) -> Option<[u8; 32]> {
        hex::decode(self.stated.as_ref()?).ok()?.try_into().ok()
    }

    /// Opens the wallet.
    ///
    /// # Errors
    /// [`WalletError::WrongPassword`], [`WalletError::UnsupportedEncryption`], [`WalletError::NotEd25519`],
    /// [`WalletError::Damaged`], [`WalletError::NotPem`].
    pub fn open(&self, password: &[u8]) -> Result<Wallet, WalletError> {
        let wallet = Wallet { key: self.decrypt(password)? };
        let found = hex::encode(wallet.public_key());
        match &self.stated {
            Some(stated) if *stated != found => {
                Err(WalletError::Damaged { path: self.path.clone(), stated: stated.clone(), found })
            }
            _ => Ok(wallet),
        }
    }

    fn decrypt(&self, password: &[u8]) -> Result<SigningKey, WalletError> {
        let path = &self.path;
        let unsupported = || match algorithm::of_encryption(&self.encrypted) {
            Some(found) => WalletError::UnsupportedEncryption { path: path.clone(), found },
            None => WalletError::NotPem { path: path.clone() },
        };
        let wrong_password = || WalletError::WrongPassword { path: path.clone() };

        let info = EncryptedPrivateKeyInfoRef::try_from(self.encrypted.as_slice()).map_err(|_| unsupported())?;
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
        check_algorithm(path, &info)?;
        SigningKey::try_from(info).map_err(|_| wrong_password())
    }
}

fn check_algorithm(path: &Path, info: &PrivateKeyInfoRef<'_>) -> Result<(), WalletError> {
    if info.algorithm.oid == ED25519 {
        return Ok(());
    }
    // The parameters of an elliptic curve's key are the curve.
    let names = [Some(info.algorithm.oid), info.algorithm.parameters_oid().ok()];
    let found = names.iter().flatten().map(algorithm::name).collect::<Vec<_>>().join(" ");
    Err(WalletError::NotEd25519 { path: path.into(), found })
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
    Read { path: PathBuf, source: io::Error },
    /// The new file, or its folder, cannot be written.
    #[error("cannot write the wallet {}: check the folder's permissions and the free space", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The file has another format altogether, or its key is cut short.
    #[error(
        "{} is not a wallet: expected a PEM file that holds `-----BEGIN ENCRYPTED PRIVATE KEY-----` whole; \
         restore it from a backup, or make a new one with `ocelli wallet new`",
        path.display()
    )]
    NotPem { path: PathBuf },
    /// The file is a PEM of something else.
    #[error(
        "{} holds a PEM `{found}`, expected `ENCRYPTED PRIVATE KEY`: name the right file with --wallet, or make one with \
         `ocelli wallet new`",
        path.display()
    )]
    WrongLabel {
        path: PathBuf,
        /// What stands after `-----BEGIN`.
        found: String,
    },
    /// The file is text of two bytes a character, as PowerShell's `>` writes it.
    #[error(
        "{} is UTF-16 text, expected a PEM file in ASCII or UTF-8: convert it, as with `iconv -f UTF-16 -t UTF-8`",
        path.display()
    )]
    Utf16 { path: PathBuf },
    /// The key lies open. Such a file is refused, so that nobody takes it for protected.
    #[error(
        "the key in {} is not encrypted, and a wallet must be: `ocelli wallet import {0} --wallet NAME` makes a wallet of it",
        path.display()
    )]
    NotEncrypted { path: PathBuf },
    /// The file of a watch-only wallet, where a key is needed.
    #[error(
        "{} is a watch-only wallet, an address without its key: use the wallet that holds the key, or bring the key here \
         with `ocelli wallet import FILE --wallet NAME`",
        path.display()
    )]
    NoKey { path: PathBuf },
    /// The file of a watch-only wallet holds something else.
    #[error("{} is not a watch-only wallet: expected one line, `{PREFIX}ADDRESS`", path.display(), PREFIX = "Ocelli watch-only address ")]
    NotWatched { path: PathBuf },
    /// The password does not open the file. Damage cannot always be told from it.
    #[error("the password does not open {}: try it again; if you are sure of it, the file is damaged: use a backup", path.display())]
    WrongPassword { path: PathBuf },
    /// The file opens, but to another key than it says.
    #[error("{} is damaged: it states the public key {stated} but holds the key of {found}; use a backup", path.display())]
    Damaged {
        path: PathBuf,
        /// The public key in the text above the PEM.
        stated: String,
        /// The public key of what the PEM holds, in hex.
        found: String,
    },
    /// The key is of another kind.
    #[error(
        "{} holds a key of algorithm {found}, expected Ed25519: name the right file with --wallet, or make one with \
         `ocelli wallet new`",
        path.display()
    )]
    NotEd25519 {
        path: PathBuf,
        /// Its algorithm, by name or object identifier.
        found: String,
    },
    /// The file is encrypted in a way we do not know, or will not pay for.
    #[error(
        "{} is encrypted with {found}, expected PBES2 with scrypt or PBKDF2 (HMAC-SHA1 to HMAC-SHA512, a salt of at most 32 \
         bytes) at a usual cost, and AES-CBC or 3DES: convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc -in {0} -out \
         NEW.pem`",
        path.display()
    )]
    UnsupportedEncryption {
        path: PathBuf,
        /// The algorithms, by name or object identifier.
        found: String,
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
    PasswordFile { path: PathBuf, source: io::Error },
    /// The password is text of two bytes a character, as some editors save it.
    #[error("{place} holds a zero byte or UTF-16 text, expected a password in UTF-8: save it as UTF-8")]
    PasswordEncoding {
        /// The file or variable.
        place: String,
    },
    /// Nobody can be asked.
    #[error("there is no terminal to ask for the wallet's password: set {PASSWORD_VARIABLE}, or use --password-file")]
    NoTerminal { source: io::Error },
    /// The system's random numbers failed.
    #[error(
        "the system gives no random numbers, and a key needs them: try again, and check that /dev/urandom is there"
    )]
    Random { source: io::Error },
}

impl WalletError {
    fn reading(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path: path.into() },
            _ => Self::Read { path: path.into(), source },
        }
    }
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

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file that must not exist yet: whole under a temporary name (mode 0600), synced, then renamed.
fn write_new(path: &Path, contents: &[u8]) -> Result<(), WalletError> {
    let failed = |source| WalletError::Write { path: path.into(), source };
    let folder = folder(path);
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

#[cfg(test)]
mod tests {
    use std::fs;

    use ed25519_dalek::{Signature, VerifyingKey};

    use super::*;

    /// `openssl genpkey -algorithm ed25519`.
    const NOT_ENCRYPTED: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MC4CAQAwBQYDK2VwBCIEIE3bfm4IjnvMDi8p7zhpkFeO6KoGiVtZRaSyJF9H5lm4\n\
-----END PRIVATE KEY-----\n";

    /// The key of RFC 8032, section 7.1, test 1.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC_KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    /// What encrypts the files of `tests/fixtures/keys`, which OpenSSL 3.0.19 made: of [`SEED`] by
    /// `openssl pkcs8 -topk8` with `-scrypt`, `-v2 CIPHER`, `-v2prf HASH` and `-v1 PBE-SHA1-3DES`, and `openssl pkcs12`; those
    /// called `other` of keys by `openssl genpkey` and `openssl ecparam -name prime256v1 -genkey`.
    const PASSWORD: &[u8] = b"x y";

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys").join(name)
    }

    fn open(path: &Path, password: &[u8]) -> Result<Wallet, WalletError> {
        LockedWallet::read(path)?.open(password)
    }

    fn open_text(text: impl AsRef<[u8]>, password: &[u8]) -> Result<Wallet, WalletError> {
        open(file_with(text).path(), password)
    }

    fn file_with(text: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_wallet_survives_the_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/deeper/wallet.pem");
        let made = Wallet::create(&path, b"correct horse").unwrap();
        let opened = open(&path, b"correct horse").unwrap();
        assert_eq!(made.public_key(), opened.public_key());

        let signature = Signature::from_bytes(&opened.sign(b"message"));
        VerifyingKey::from_bytes(&made.public_key()).unwrap().verify_strict(b"message", &signature).unwrap();

        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [path], "no temporary file stays behind");
    }

    #[test]
    fn a_seed_gives_the_key_of_rfc_8032_section_7_1_test_1() {
        let wallet = Wallet::from_seed(hex::decode(SEED).unwrap().try_into().unwrap());
        assert_eq!(hex::encode(wallet.public_key()), PUBLIC_KEY);
        assert_eq!(
            hex::encode(wallet.sign(b"")),
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595b\
             be24655141438e7a100b"
        );
        assert!(!format!("{wallet:?}").contains("9d61"), "the seed is never shown");
    }

    #[test]
    fn wallets_of_openssl_open() {
        for name in [
            "00-scrypt.pem",
            "20-one-line.pem",
            "25-blank-lines-after.pem",
            "26-spaces-at-ends.pem",
            "30-public-key-first.pem",
            "scrypt-cost.pem",
            "scrypt.der",
            "pbkdf2-SHA1.pem",
            "pbkdf2-SHA224.pem",
            "pbkdf2-SHA256.pem",
            "pbkdf2-SHA384.pem",
            "pbkdf2-SHA512.pem",
            "aes-128.pem",
            "aes-192.pem",
            "3des.pem",
            // A certificate and names around, one of them in Latin-1.
            "pkcs12-attributes.pem",
        ] {
            let wallet = open(&fixture(name), PASSWORD).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(hex::encode(wallet.public_key()), PUBLIC_KEY, "{name}");
        }
    }

    /// The key of `00-scrypt.pem` as editors, mail and other programs leave it.
    #[test]
    fn the_layout_of_a_wallet_is_no_matter() {
        let pem = fs::read_to_string(fixture("00-scrypt.pem")).unwrap();
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let wrapped = |width: usize| {
            let lines: Vec<_> = base64.as_bytes().chunks(width).map(|line| str::from_utf8(line).unwrap()).collect();
            format!("-----BEGIN {ENCRYPTED_LABEL}-----\n{}\n-----END {ENCRYPTED_LABEL}-----\n", lines.join("\n"))
        };
        let certificate = "-----BEGIN CERTIFICATE-----\nnot even base64\n-----END CERTIFICATE-----\n";
        for (what, text) in [
            ("CRLF", pem.replace('\n', "\r\n")),
            ("no final newline", pem.trim_end().to_owned()),
            ("byte order mark", format!("\u{feff}{pem}")),
            ("blank lines", format!("\n \n{}\n\n", pem.replace('\n', "\n\n"))),
            ("indented", pem.replace('\n', "\n\t  ")),
            ("trailing blanks", pem.replace('\n', " \t\n")),
            ("76 a line", wrapped(76)),
            ("1 a line", wrapped(1)),
            ("text around", format!("Key of Zoë:\n{pem}-- \nsent from a phone\n")),
            ("certificate before", format!("{certificate}{pem}")),
            ("certificate after", format!("{pem}{certificate}")),
            ("another key after", format!("{pem}{NOT_ENCRYPTED}")),
            ("cut short before", format!("{}{pem}", &pem[..100])),
        ] {
            let wallet = open_text(&text, PASSWORD).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(hex::encode(wallet.public_key()), PUBLIC_KEY, "{what}");
        }
        // Of two private keys the first counts.
        let error = open_text(format!("{NOT_ENCRYPTED}{pem}"), PASSWORD).unwrap_err();
        assert!(matches!(error, WalletError::NotEncrypted { .. }), "{error}");
        // Base64 tells small letters from capital ones.
        assert!(open_text(pem.replace("Oe1vSmnd", "oe1vsmnd"), PASSWORD).is_err());
    }

    #[test]
    fn a_key_that_repeats_its_public_key_opens() {
        let wallet = Wallet::from_seed([7; 32]);
        let sealed = |public_key| {
            let key = KeypairBytes {
                secret_key: [7; 32],
                public_key: Some(ed25519_dalek::pkcs8::PublicKeyBytes(public_key)),
            };
            let document = pkcs8::EncodePrivateKey::to_pkcs8_der(&key).unwrap();
            let info = PrivateKeyInfoRef::try_from(document.as_bytes()).unwrap();
            let cost = scrypt::Params::new(4, 8, 1).unwrap();
            let parameters = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &[0; 16], [0; 16]).unwrap();
            let encrypted = info.encrypt_with_params(parameters, PASSWORD).unwrap();
            encrypted.to_pem(ENCRYPTED_LABEL, LineEnding::LF).unwrap()
        };
        let opened = open_text(&*sealed(wallet.public_key()), PASSWORD).unwrap();
        assert_eq!(opened.public_key(), wallet.public_key());
        let error = open_text(&*sealed(Wallet::from_seed([8; 32]).public_key()), PASSWORD).unwrap_err();
        assert!(matches!(error, WalletError::WrongPassword { .. }), "{error}");
    }

    #[test]
    fn a_password_may_be_any_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.pem");
        let made = Wallet::create(&path, b"p\xe4ss\xff").unwrap();
        assert_eq!(open(&path, b"p\xe4ss\xff").unwrap().public_key(), made.public_key());
        assert!(matches!(open(&path, "päss\u{ff}".as_bytes()).unwrap_err(), WalletError::WrongPassword { .. }));
    }

    #[test]
    fn a_public_key_is_stated_without_a_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.pem");
        let wallet = Wallet::create(&path, PASSWORD).unwrap();
        assert_eq!(LockedWallet::read(&path).unwrap().stated_key(), Some(wallet.public_key()));

        // One of OpenSSL states none, until the line is put at its top.
        let pem = fs::read_to_string(fixture("00-scrypt.pem")).unwrap();
        let stated = |text: String| LockedWallet::read(file_with(text).path()).unwrap().stated_key();
        assert_eq!(stated(pem.clone()), None);
        let statement = open_text(&pem, PASSWORD).unwrap().statement();
        assert_eq!(stated(format!("{statement}\r\n{pem}")).map(hex::encode).as_deref(), Some(PUBLIC_KEY));
        assert_eq!(stated(format!("{PUBLIC_KEY_PREFIX}12\n{pem}")), None, "no key");
    }

    #[test]
    fn a_file_that_is_no_wallet_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let missing = open(&folder.path().join("none.pem"), b"x").unwrap_err();
        assert!(missing.to_string().contains("ocelli wallet new"), "{missing}");
        assert!(matches!(open(folder.path(), b"x").unwrap_err(), WalletError::Read { .. }));

        let pem = fs::read_to_string(fixture("00-scrypt.pem")).unwrap();
        let utf16: Vec<u8> = "\u{feff}".encode_utf16().chain(pem.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let deep = [0x30, 0x80].repeat(1 << 15);
        let deep = pkcs8::der::pem::encode_string(ENCRYPTED_LABEL, LineEnding::LF, &deep).unwrap();
        let rsa = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        type Check = fn(&WalletError) -> bool;
        let rows: [(&str, &[u8], Check); 11] = [
            ("empty", b"", |e| matches!(e, WalletError::NotPem { .. })),
            ("a picture", b"\xff\xd8\xff\xe0\0\x10JFIF", |e| matches!(e, WalletError::NotPem { .. })),
            ("cut short", &pem.as_bytes()[..pem.len() - 40], |e| matches!(e, WalletError::NotPem { .. })),
            ("not base64", &pem.replace("Oe1v", "Oe_v").into_bytes(), |e| matches!(e, WalletError::NotPem { .. })),
            ("no DER", deep.as_bytes(), |e| matches!(e, WalletError::NotPem { .. })),
            ("UTF-16", &utf16, |e| matches!(e, WalletError::Utf16 { .. })),
            (
                "a certificate",
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                |e| matches!(e, WalletError::WrongLabel { found, .. } if found == "CERTIFICATE"),
            ),
            (
                "of OpenSSH",
                b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
                |e| matches!(e, WalletError::WrongLabel { found, .. } if found == "OPENSSH PRIVATE KEY"),
            ),
            ("plain", NOT_ENCRYPTED.as_bytes(), |e| matches!(e, WalletError::NotEncrypted { .. })),
            ("traditional", rsa.as_bytes(), |e| matches!(e, WalletError::NotEd25519 { found, .. } if found == "RSA")),
            ("wrong password", pem.as_bytes(), |e| matches!(e, WalletError::WrongPassword { .. })),
        ];
        for (name, contents, is_expected) in rows {
            let error = open_text(contents, b"z").unwrap_err();
            assert!(is_expected(&error), "{name}: {error}");
        }
        assert!(matches!(open_text(&pem, b"").unwrap_err(), WalletError::WrongPassword { .. }));

        for (name, words) in [
            ("other-x25519.pem", "a key of algorithm X25519, expected Ed25519"),
            ("other-ed448.pem", "a key of algorithm Ed448"),
            ("other-rsa.pem", "a key of algorithm RSA"),
            ("other-secp256k1.pem", "a key of algorithm elliptic curve secp256k1"),
            ("other-traditional-ec.pem", "a key of algorithm elliptic curve"),
            ("unsupported-pbes1.pem", "is encrypted with PBE-SHA1-3DES, expected PBES2"),
            ("unsupported-camellia.pem", "encrypted with PBES2, PBKDF2, HMAC-SHA256, Camellia-256-CBC, expected"),
        ] {
            let error = open(&fixture(name), PASSWORD).unwrap_err().to_string();
            assert!(error.contains(words), "{name}: {error}");
        }
    }

    #[test]
    fn a_tampered_file_never_opens() {
        let pem = Wallet::from_seed([7; 32]).to_pem(b"x").unwrap();
        open_text(pem.as_bytes(), b"x").unwrap();
        let (above, encoded) = pem.split_at(pem.find("-----BEGIN").unwrap());
        let (_, document) = pkcs8::SecretDocument::from_pem(encoded).unwrap();

        // The end of the document is the ciphertext: the header's block, two that hold the seed, the padding's.
        let length = document.as_bytes().len();
        let mut seen = Vec::new();
        for position in [0, 40, length - 64, length - 48, length - 32, length - 20, length - 1] {
            let mut bytes = document.as_bytes().to_vec();
            bytes[position] ^= 1;
            let pem = pkcs8::der::pem::encode_string(ENCRYPTED_LABEL, LineEnding::LF, &bytes).unwrap();
            seen.push(open_text(format!("{above}{pem}"), b"x").unwrap_err());
        }
        assert!(seen.iter().any(|error| matches!(error, WalletError::WrongPassword { .. })), "{seen:?}");
        assert!(seen.iter().any(|error| matches!(error, WalletError::Damaged { .. })), "{seen:?}");

        let other_key = pem.replace(&hex::encode(Wallet::from_seed([7; 32]).public_key()), &"00".repeat(32));
        let error = open_text(other_key, b"x").unwrap_err();
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
        for error in [Wallet::create(file.path(), b"x").unwrap_err(), write_new(file.path(), b"other").unwrap_err()] {
            assert!(matches!(error, WalletError::Exists { .. }), "{error}");
        }
        assert_eq!(fs::read(file.path()).unwrap(), b"precious");
    }

    #[test]
    fn an_empty_password_makes_no_wallet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.pem");
        assert!(matches!(Wallet::create(&path, b"").unwrap_err(), WalletError::EmptyPassword));
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/wallet.pem");
        Wallet::create(&path, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }
}
