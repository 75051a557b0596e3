//! Signed messages: that the holder of an address says something, without any transaction.
//!
//! What is signed is `H("ocelli/message", message)`, which no transaction's signing hash can be, so that nobody is made to sign
//! a payment. The signature is the 32 bytes of the public key and the 64 of Ed25519 (RFC 8032), as base64: an address
//! is a hash, so the key has to be shown.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ocelli_consensus::Address;
use ocelli_consensus::hash::tagged;
use ocelli_consensus::signature;

use super::Wallet;

/// Why a signed message is not what an address has said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No signature of this kind at all.
    #[error(
        "the signature is not base64 of 96 bytes, as `ocelli wallet sign` prints it: it has 128 characters, all of one line"
    )]
    Format,
    /// It is another's.
    #[error("this is a signature by the key of another address, not by that of the one given")]
    Address,
    /// The message was changed, or is another.
    #[error("the signature is not of this message: every byte of it counts, a line's end too")]
    Signature,
}

impl Wallet {
    /// Signs a message of any length.
    #[must_use]
    pub fn sign_message(&self, message: &[u8]) -> String {
        let mut bytes = self.public_key().to_vec();
        bytes.extend(self.sign(&hash(message)));
        BASE64_STANDARD.encode(bytes)
    }
}

/// Checks that the holder of an address has signed a message.
///
/// # Errors
/// [`MessageError`] says what does not fit.
pub fn verify_message(address: &Address, signature: &str, message: &[u8]) -> Result<(), MessageError> {
    let bytes = BASE64_STANDARD.decode(signature.trim()).map_err(|_| MessageError::Format)?;
    let (public_key, signature) = bytes.split_first_chunk::<32>().ok_or(MessageError::Format)?;
    let signature: &[u8; 64] = signature.try_into().map_err(|_| MessageError::Format)?;
    if Address::of(public_key) != *address {
        return Err(MessageError::Address);
    }
    signature::verify(public_key, &hash(message), signature).map_err(|_| MessageError::Signature)
}

fn hash(message: &[u8]) -> [u8; 32] {
    tagged("ocelli/message", &[message])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_message_is_by_its_address_and_of_its_bytes() {
        let wallet = Wallet::from_seed([7; 32]);
        let address = Address::of(&wallet.public_key());
        let signature = wallet.sign_message(b"paid, 3 May");
        assert_eq!(signature.len(), 128);
        verify_message(&address, &format!(" {signature}\n"), b"paid, 3 May").unwrap();

        let other = Address::of(&Wallet::from_seed([8; 32]).public_key());
        let of_other = Wallet::from_seed([8; 32]).sign_message(b"paid, 3 May");
        let mut bytes = BASE64_STANDARD.decode(&signature).unwrap();
        bytes[95] ^= 0x10;
        for (address, signature, message, expected) in [
            (&other, signature.as_str(), &b"paid, 3 May"[..], MessageError::Address),
            (&address, &of_other, b"paid, 3 May", MessageError::Address),
            (&address, &signature, b"paid, 3 May\n", MessageError::Signature),
            (&address, &BASE64_STANDARD.encode(&bytes), b"paid, 3 May", MessageError::Signature),
            (&address, &signature[4..], b"paid, 3 May", MessageError::Format),
            (&address, &format!("{signature}AAAA"), b"paid, 3 May", MessageError::Format),
            (&address, "", b"paid, 3 May", MessageError::Format),
            (&address, "no base64!", b"paid, 3 May", MessageError::Format),
        ] {
            assert_eq!(verify_message(address, signature, message), Err(expected), "{signature}");
        }
    }
}
