//! Ed25519 as Ocelli nodes agree on it. RFC 8032 leaves room in which implementations differ ("Taming the many EdDSAs",
//! Chalkias, Garillot, Nikolaenko 2020); here there is none.
//!
//! `ed25519-dalek`'s `verify_strict` refuses S at or above the group order, R that is no point, R or a public key of small
//! order, and checks the cofactorless equation `[S]B - [k]A = R` by comparing encodings, which refuses an R that is not
//! encoded canonically. It leaves out whether the *public key* is encoded canonically (the y coordinate below
//! 2^255 - 19, and no sign on x = 0); that is added here. Points with a component of small order are not refused: with
//! the cofactorless equation they leave no room either.

use ed25519_dalek::{Signature, VerifyingKey};

/// Why a signature is refused, the first reason in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The public key decodes to no point of the curve.
    #[error("public key is no point of the curve")]
    PublicKeyNotAPoint,
    /// The public key is a point whose encoding is another.
    #[error("public key is not encoded canonically")]
    PublicKeyNotCanonical,
    /// The public key is a point of small order, for which a signature proves nothing.
    #[error("public key has small order")]
    PublicKeySmallOrder,
    /// R decodes to no point of the curve.
    #[error("signature's R is no point of the curve")]
    RNotAPoint,
    /// R is a point whose encoding is another.
    #[error("signature's R is not encoded canonically")]
    RNotCanonical,
    /// R is a point of small order.
    #[error("signature's R has small order")]
    RSmallOrder,
    /// S is not below the group order.
    #[error("signature's S is not below the group order")]
    SNotReduced,
    /// The signature is well formed and not one of this key over this message.
    #[error("signature is not the key's over this message")]
    Mismatch,
}

/// Order of the group, 2^252 + 27742317777372353535851937790883648493, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The field's prime, 2^255 - 19, little-endian.
const PRIME: [u8; 32] = field_element(0xed, 0xff, 0x7f);
/// One less, which is the y = -1 of the point of order 2.
const MINUS_ONE: [u8; 32] = field_element(0xec, 0xff, 0x7f);
/// The y of the identity.
const ONE: [u8; 32] = field_element(1, 0, 0);

/// 32 bytes: the first, thirty times the same, the last.
const fn field_element(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// A signature with what it is over and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// RFC 8032.
    pub public_key: [u8; 32],
    /// What was signed.
    pub message: [u8; 32],
    /// R, then S.
    pub signature: [u8; 64],
}

impl Signed {
    /// Checks it as [`verify`] does.
    ///
    /// # Errors
    /// The first reason to refuse it.
    pub fn verify(&self) -> Result<(), SignatureError> {
        verify(&self.public_key, &self.message, &self.signature)
    }
}

/// Checks a signature (R, 32 bytes, then S, 32 bytes little-endian) over `message` (RFC 8032 §5.1.7, made strict as the
/// module says).
///
/// # Errors
/// The first reason to refuse it, in the order of [`SignatureError`].
pub fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
    let key = check_public_key(public_key)?;
    let signature = Signature::from_bytes(signature);
    // The library looks at all of the signature at once, and a good one needs no more than that.
    key.verify_strict(message, &signature).map_err(|_| fault(&signature))
}

/// Checks that a public key is one for which [`verify`] can succeed, and decodes it.
///
/// # Errors
/// If it is no point, not encoded canonically, or of small order.
fn check_public_key(public_key: &[u8; 32]) -> Result<VerifyingKey, SignatureError> {
    match decode(public_key) {
        Ok(key) if key.is_weak() => Err(SignatureError::PublicKeySmallOrder),
        Ok(key) => Ok(key),
        Err(Malformed::NotAPoint) => Err(SignatureError::PublicKeyNotAPoint),
        Err(Malformed::NotCanonical) => Err(SignatureError::PublicKeyNotCanonical),
    }
}

/// What is wrong with a signature that the library has refused.
#[cold]
fn fault(signature: &Signature) -> SignatureError {
    match decode(signature.r_bytes()) {
        Ok(point) if point.is_weak() => return SignatureError::RSmallOrder,
        Ok(_) => {}
        Err(Malformed::NotAPoint) => return SignatureError::RNotAPoint,
        Err(Malformed::NotCanonical) => return SignatureError::RNotCanonical,
    }
    if !signature.s_bytes().iter().rev().lt(ORDER.iter().rev()) {
        return SignatureError::SNotReduced;
    }
    SignatureError::Mismatch
}

enum Malformed {
    NotAPoint,
    NotCanonical,
}

/// Decodes a point, whichever: to the library every point is a key.
fn decode(bytes: &[u8; 32]) -> Result<VerifyingKey, Malformed> {
    let point = VerifyingKey::from_bytes(bytes).map_err(|_| Malformed::NotAPoint)?;
    if is_canonical(bytes) { Ok(point) } else { Err(Malformed::NotCanonical) }
}

/// Whether the encoding of a point is the one that RFC 8032 §5.1.2 gives it: y below the prime, and no sign on x = 0, which
/// is so for y = 1 and y = -1 alone. Encoding the point anew would say the same, for the price of an inversion.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let (mut y, is_negative) = (*bytes, bytes[31] >> 7 == 1);
    y[31] &= 0x7f;
    let is_reduced = y.iter().rev().lt(PRIME.iter().rev());
    is_reduced && !(is_negative && (y == ONE || y == MINUS_ONE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    /// Against encoding the point anew, at and around every y where the two could differ.
    #[test]
    fn canonical_is_what_encoding_gives() {
        let mut points = 0;
        for low in 0..=255 {
            for (between, high) in [(0, 0), (0xff, 0x7f), (0, 0x80), (0xff, 0xff)] {
                let bytes = field_element(low, between, high);
                let Ok(point) = VerifyingKey::from_bytes(&bytes) else { continue };
                let encoded = point.to_edwards().compress().to_bytes();
                assert_eq!(is_canonical(&bytes), encoded == bytes, "{bytes:x?}");
                points += 1;
            }
        }
        assert!(points > 200, "{points}");
    }

    proptest! {
        #[test]
        fn random_encodings_are_canonical_where_encoding_says_so(bytes in any::<[u8; 32]>()) {
            if let Ok(point) = VerifyingKey::from_bytes(&bytes) {
                prop_assert_eq!(is_canonical(&bytes), point.to_edwards().compress().to_bytes() == bytes);
            }
        }
    }

    #[test]
    fn each_reason() {
        let signer = SigningKey::from_bytes(&[7; 32]);
        let key = signer.verifying_key().to_bytes();
        let good = signer.sign(b"message").to_bytes();
        assert_eq!(verify(&key, b"message", &good), Ok(()));
        assert_eq!(verify(&key, b"another", &good), Err(SignatureError::Mismatch));

        let with = |range: std::ops::Range<usize>, bytes: &[u8]| {
            let mut changed = good;
            changed[range].copy_from_slice(bytes);
            verify(&key, b"message", &changed)
        };
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signed_identity = identity; // x = 0 with a sign
        signed_identity[31] = 0x80;
        let mut unreduced = [0xff; 32]; // y = 2^255 - 19 + 1, the identity again
        (unreduced[0], unreduced[31]) = (0xee, 0x7f);
        let mut nowhere = [0; 32]; // y = 2 is not on the curve
        nowhere[0] = 2;

        assert_eq!(with(0..32, &identity), Err(SignatureError::RSmallOrder));
        assert_eq!(with(0..32, &unreduced), Err(SignatureError::RNotCanonical));
        assert!(with(0..32, &signed_identity).is_err());
        assert_eq!(with(0..32, &nowhere), Err(SignatureError::RNotAPoint));
        assert_eq!(verify(&identity, b"message", &good), Err(SignatureError::PublicKeySmallOrder));
        assert_eq!(verify(&unreduced, b"message", &good), Err(SignatureError::PublicKeyNotCanonical));
        assert!(verify(&signed_identity, b"message", &good).is_err());
        assert_eq!(verify(&nowhere, b"message", &good), Err(SignatureError::PublicKeyNotAPoint));

        assert_eq!(with(32..64, &ORDER), Err(SignatureError::SNotReduced));
        let mut below = ORDER;
        below[0] -= 1;
        assert_eq!(with(32..64, &below), Err(SignatureError::Mismatch));
        // The same S plus the order: the equation would hold.
        let mut carry = 0u16;
        let plus: Vec<u8> = (good[32..].iter().zip(ORDER))
            .map(|(&digit, order)| {
                carry += u16::from(digit) + u16::from(order);
                let low = carry as u8;
                carry >>= 8;
                low
            })
            .collect();
        assert_eq!(with(32..64, &plus), Err(SignatureError::SNotReduced));
    }
}
