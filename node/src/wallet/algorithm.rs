//! The names of algorithms in key files, to say what was found.

use pkcs8::ObjectIdentifier;
use pkcs8::der::{AnyRef, Decode as _, Reader as _, SliceReader, Tag, Tagged as _};

/// Bounds how deep lists within lists are looked into; PBES2's names lie four deep.
const MAX_DEPTH: usize = 8;

/// What people call the algorithms of PKCS#5, PKCS#8 and PKCS#12.
const NAMES: [(&str, &str); 36] = [
    ("1.2.840.113549.1.1.1", "RSA"),
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("1.2.840.113549.1.3.1", "Diffie-Hellman"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.10045.2.1", "elliptic curve"),
    ("1.2.840.10045.3.1.7", "P-256"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.132.0.34", "P-384"),
    ("1.3.132.0.35", "P-521"),
    ("1.3.101.110", "X25519"),
    ("1.3.101.111", "X448"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
    ("1.2.840.113549.1.5.3", "PBE-MD5-DES"),
    ("1.2.840.113549.1.5.10", "PBE-SHA1-DES"),
    ("1.2.840.113549.1.12.1.1", "PBE-SHA1-RC4-128"),
    ("1.2.840.113549.1.12.1.2", "PBE-SHA1-RC4-40"),
    ("1.2.840.113549.1.12.1.3", "PBE-SHA1-3DES"),
    ("1.2.840.113549.1.12.1.4", "PBE-SHA1-2DES"),
    ("1.2.840.113549.1.12.1.5", "PBE-SHA1-RC2-128"),
    ("1.2.840.113549.1.12.1.6", "PBE-SHA1-RC2-40"),
    ("1.2.840.113549.1.5.13", "PBES2"),
    ("1.2.840.113549.1.5.12", "PBKDF2"),
    ("1.3.6.1.4.1.11591.4.11", "scrypt"),
    ("1.2.840.113549.2.7", "HMAC-SHA1"),
    ("1.2.840.113549.2.8", "HMAC-SHA224"),
    ("1.2.840.113549.2.9", "HMAC-SHA256"),
    ("1.2.840.113549.2.10", "HMAC-SHA384"),
    ("1.2.840.113549.2.11", "HMAC-SHA512"),
    ("2.16.840.1.101.3.4.1.2", "AES-128-CBC"),
    ("2.16.840.1.101.3.4.1.22", "AES-192-CBC"),
    ("2.16.840.1.101.3.4.1.42", "AES-256-CBC"),
    ("1.2.840.113549.3.2", "RC2-CBC"),
    ("1.2.840.113549.3.7", "3DES-CBC"),
    ("1.3.14.3.2.7", "DES-CBC"),
    ("1.2.392.200011.61.1.1.1.4", "Camellia-256-CBC"),
];

/// The algorithms that encrypt an `EncryptedPrivateKeyInfo` (RFC 5958, section 3), outermost first; none if it is none.
pub fn of_encryption(der: &[u8]) -> Option<String> {
    let mut found = Vec::new();
    collect(AnyRef::from_der(der).ok()?, 0, &mut found);
    (!found.is_empty()).then(|| found.join(", "))
}

/// What people call an algorithm; its numbers if there is no name.
pub fn name(oid: &ObjectIdentifier) -> String {
    let oid = oid.to_string();
    NAMES.iter().find(|(known, _)| *known == oid).map_or(oid, |(_, name)| (*name).to_owned())
}

fn collect(value: AnyRef<'_>, depth: usize, found: &mut Vec<String>) {
    match value.tag() {
        Tag::ObjectIdentifier => found.extend(value.decode_as().ok().map(|oid| name(&oid))),
        Tag::Sequence if depth < MAX_DEPTH => {
            let Ok(mut reader) = SliceReader::new(value.value()) else { return };
            while !reader.is_finished()
                && let Ok(inner) = AnyRef::decode(&mut reader)
            {
                collect(inner, depth + 1, found);
            }
        }
        _ => {}
    }
}
