//! A wallet's key as 24 words: those that BIP-39 gives for the key's 32 bytes, of its English list. The words *are* the key,
//! and no password or derivation comes between: whoever has them has the account.

use bip39::{Language, Mnemonic};
use zeroize::Zeroizing;

use super::Wallet;

/// Words of a phrase: 264 bits, of which 256 are the key and 8 the checksum.
pub const PHRASE_WORDS: usize = 24;

/// Why words are not a phrase. None repeats a word: they are a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Too few or too many.
    #[error("{found} words, expected {PHRASE_WORDS}: look for one left out or written twice")]
    Count {
        /// How many there are.
        found: usize,
    },
    /// One is not in the list.
    #[error(
        "word {place} is not one of BIP-39's English list: look at how it is written; the first four letters decide"
    )]
    UnknownWord {
        /// Which, from 1.
        place: usize,
    },
    /// All are words of the list, and yet they do not belong together.
    #[error("the words do not fit together: one is another than was written down, or two have changed places")]
    Checksum,
}

impl Wallet {
    /// The phrase: [`PHRASE_WORDS`] words with a space between.
    #[must_use]
    pub fn phrase(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(self.key.to_bytes());
        let phrase = Mnemonic::from_entropy(seed.as_ref()).expect("32 bytes are one of BIP-39's lengths");
        let mut text = Zeroizing::new(String::with_capacity(9 * PHRASE_WORDS));
        for word in phrase.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// The wallet of a phrase, whatever white space and capital letters it is written with.
    ///
    /// # Errors
    /// [`PhraseError`] says which word to look at.
    pub fn from_phrase(text: &str) -> Result<Self, PhraseError> {
        let words = text.split_whitespace().count();
        if words != PHRASE_WORDS {
            return Err(PhraseError::Count { found: words });
        }
        let mut plain = Zeroizing::new(String::with_capacity(text.len()));
        for word in text.split_whitespace() {
            if !plain.is_empty() {
                plain.push(' ');
            }
            plain.extend(word.chars().map(|letter| letter.to_ascii_lowercase()));
        }
        let phrase = Mnemonic::parse_in_normalized(Language::English, &plain).map_err(|error| match error {
            bip39::Error::UnknownWord(index) => PhraseError::UnknownWord { place: index + 1 },
            _ => PhraseError::Checksum,
        })?;
        let (entropy, length) = phrase.to_entropy_array();
        let entropy = Zeroizing::new(entropy);
        let seed = entropy[..length].try_into().map_err(|_| PhraseError::Count { found: words })?;
        Ok(Self::from_seed(seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trezor's vectors for 32 bytes of entropy, from `python-mnemonic` (MIT), as BIP-39 names them.
    const VECTORS: [(&str, &str); 4] = [
        (
            "0000000000000000000000000000000000000000000000000000000000000000",
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
             abandon abandon abandon abandon abandon abandon abandon abandon abandon art",
        ),
        (
            "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f",
            "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal winner \
             thank year wave sausage worth title",
        ),
        (
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote",
        ),
        (
            "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c",
            "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis maple \
             dilemma loan word shrug inflict delay length",
        ),
    ];

    #[test]
    fn the_words_are_the_key() {
        for (seed, words) in VECTORS {
            let seed: [u8; 32] = hex::decode(seed).unwrap().try_into().unwrap();
            let wallet = Wallet::from_seed(seed);
            assert_eq!(*wallet.phrase(), words);
            let written = words.replace(' ', " \n\t").to_uppercase();
            assert_eq!(Wallet::from_phrase(&written).unwrap().public_key(), wallet.public_key());
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_not_repeated() {
        let words: Vec<_> = VECTORS[3].1.split(' ').collect();
        let with = |place: usize, word: &str| {
            let mut words = words.clone();
            words[place] = word;
            words.join(" ")
        };
        for (text, expected) in [
            (String::new(), PhraseError::Count { found: 0 }),
            (words[..23].join(" "), PhraseError::Count { found: 23 }),
            (format!("{} zoo", words.join(" ")), PhraseError::Count { found: 25 }),
            ("abandon ".repeat(1 << 16), PhraseError::Count { found: 1 << 16 }),
            (with(6, "privat"), PhraseError::UnknownWord { place: 7 }),
            (with(0, "hämster"), PhraseError::UnknownWord { place: 1 }),
            (with(23, "zoo"), PhraseError::Checksum),
            (words.join(" ").replace("dutch cause", "cause dutch"), PhraseError::Checksum),
        ] {
            let error = Wallet::from_phrase(&text).unwrap_err();
            assert_eq!(error, expected, "{text:.40}");
            assert!(!error.to_string().contains("hamster") && !error.to_string().contains("privat"), "{error}");
        }
    }
}
